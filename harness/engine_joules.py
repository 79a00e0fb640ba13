"""Holds the joules an engine counted itself against ours of the same stretch of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .errors import CoverageError
from .integrate import DISAGREEMENT_LIMIT_RATIO, window_energies
from .record import Finding
from .timeline import Window

if TYPE_CHECKING:
    from .timeline import PowerTrace

_BOUNDARIES: Final = ("gpu", "gpu_module")


def cross_check(
    facts: Mapping[str, Any] | None, power: Sequence[PowerTrace], edges: Mapping[str, int]
) -> list[Finding]:
    """
    Compare them, GPUs with GPUs.

    Args:
        facts: of the provenance's `engine_energy`; None: the engine counts no joules.
        power: all channels of the run.
        edges: mark → instant; the engine was asked just before `measure_start` and
            just after `measure_end`.

    Returns:
        One finding with both numbers, a warning where they are further apart than
        methods of one meter may be; none if there is nothing to compare.
    """
    start, end = edges.get("measure_start"), edges.get("measure_end")
    if facts is None or start is None or end is None or end <= start:
        return []
    theirs_j = float(facts["total_energy_j"])
    window = Window(name="measured phase", start_ns=start, end_ns=end, planned=True)
    try:
        found = window_energies(power, window)
    except CoverageError:
        return []
    ours = [energy for energy in found if energy.boundary in _BOUNDARIES and energy.energy_j > 0]
    if not ours:
        return []
    ratio = theirs_j / ours[0].energy_j - 1
    apart = abs(ratio) > DISAGREEMENT_LIMIT_RATIO
    return [
        Finding(
            code="engine_energy_disagrees" if apart else "engine_energy_agrees",
            severity="warning" if apart else "info",
            message=f"over the measured phase the engine counted {theirs_j:.6g} J on its GPUs, "
            f"we {ours[0].energy_j:.6g} J ({ours[0].boundary}, {ours[0].power_kind}): "
            f"{ratio:+.1%}, the limit is {DISAGREEMENT_LIMIT_RATIO:.0%}"
            + ("; are the same GPUs metered, and only they?" if apart else ""),
        )
    ]
