"""What a run's report says of its distance to the physical limit of the silicon it ran on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.cost import catalogue_files
from harness.cost import point as cost_point
from harness.errors import ConfigError

from . import distance as limit

if TYPE_CHECKING:
    from harness.record import RunRecord

_KNOWN_MODEL: Final = "gpt-oss-120b"
"""The model whose shape comes with joulemark; others have no limit in a report yet."""


def sentences(record: RunRecord) -> list[str]:
    """
    The distance, or why there is none.

    Args:
        record: of the run.

    Returns:
        Sentences; the first one says whether there is a limit to compare with.
    """
    model = str((record.config.get("engine") or {}).get("model"))
    if _KNOWN_MODEL not in model.lower():
        return [f"Not given: the shape of the model {model!r} is not known, only {_KNOWN_MODEL}'s."]
    catalogue = catalogue_files.load()
    try:
        point = cost_point.of_run(record, catalogue)
    except ConfigError as error:
        return [f"Not given: {error.problem}."]
    if point.power_kind not in limit.COMPARABLE:
        return [f"Not given: the run's power is {point.power_kind}."]
    if point.accelerator is None:
        return ["Not given: the accelerator was not recognised in the run's provenance."]
    found = limit.distance_of_point(
        point,
        catalogue.accelerator(point.accelerator),
        catalogue_files.model_shape(),
        catalogue.physics(),
    )
    if found is None:
        return ["Not given: how many requests ran at once is not known."]
    lines = [
        (
            f"Throughput is {found.time_ratio:.0%} of what memory bandwidth, arithmetic and links "
            f"allow at this batch and these lengths (MBU {found.mbu_ratio:.0%}, "
            f"MFU {found.mfu_ratio:.0%})."
        )
    ]
    if found.over_roof_ratio is not None:
        lines.append(
            f"A token took {found.over_roof_ratio:.1f} times the joules of the calibrated limit "
            "(itself good to about 30 %)."
        )
    if found.over_phys_ratio is not None:
        lines.append(
            f"It took {found.over_phys_ratio:.1f} times the joules of moving its bytes and doing "
            "its arithmetic at device level."
        )
    return lines
