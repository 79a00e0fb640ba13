"""Says how much of a run's input a prefix cache served, and whether its prompts account for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .record import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

_BEYOND_RATIO: Final = 0.05
"""A chat template's common beginning, and the first requests of a workload, differ by less."""


def input_counts(
    requests: pd.DataFrame, marks: Sequence[Mapping[str, Any]]
) -> tuple[int | None, int | None]:
    """
    Input tokens of the measured phase, and those of them that were not computed.

    Args:
        requests: rows of RequestTrace of that phase; what the server said of each counts first.
        marks: of the run: the engine's own counters before and after, if it has them.

    Returns:
        Both in tokens; None: nobody said.
    """
    known = requests.dropna(subset=["isl_tokens"])
    read = int(known["isl_tokens"].sum()) if len(known) else None
    said = known.dropna(subset=["cached_tokens"])
    if len(said) and len(said) == len(known):
        return read, int(said["cached_tokens"].sum())
    readings = {mark["when"]: mark for mark in marks if mark["mark"] == "token_counters"}
    if {"before", "after"} <= readings.keys():
        before, after = (readings[when].get("cached") for when in ("before", "after"))
        if before is not None and after is not None:
            return read, int(after - before)
    return read, None


def cached_findings(
    read: int | None, cached: int | None, expected_ratio: float | None
) -> list[Finding]:
    """
    A warning where more was cached than the prompts have in common.

    Args:
        read: input tokens.
        cached: of them, served from a prefix cache.
        expected_ratio: share of the prompts that earlier prompts of the same run began with, as
            `workload_summary` finds it; None: not recorded, which is taken for none.
    """
    if not read or cached is None:
        return []
    share = cached / read
    if share <= (expected_ratio or 0.0) + _BEYOND_RATIO:
        return []
    shared = (
        "what these prompts have in common was not recorded"
        if expected_ratio is None
        else f"these prompts have {expected_ratio:.0%} in common"
    )
    return [
        Finding(
            code="input_cached",
            severity="warning",
            message=f"{share:.0%} of the input tokens came from the engine's prefix cache, and "
            f"{shared}: it had met them before this run, or a template puts the same words before "
            "all of them. The joules of reading them are not in these numbers: use another "
            "run.seed, turn prefix caching off, or start the engine anew",
        )
    ]
