"""Whether runs can be trusted, one by one and together as repeats that fix each number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .checks import Check, Numbers, check
from .compare.comparison import FEW_RUNS, defaults
from .compare.likeness import like_values
from .compare.sets import RunSet
from .conditions import gpus
from .cooldown import TOLERANCE_C
from .record import RunRecord
from .stats.effects import ALPHA
from .stats.precision import half_width_ratio, runs_needed, spread

SUBJECT: Final = "repeats"
SUGGESTED_RATIO: Final = 0.02
"""The precision that runs are counted for where none is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """
    How well the runs fix one metric.

    Args:
        key: of the metric.
        runs: how many.
        mean: geometric, over runs.
        sd_ratio: run-to-run standard deviation; None for one run.
        half_width_ratio: half the 95 % interval of the mean over runs; None for one run.
        runs_needed: the fewest for the precision that was claimed, if they scatter as
            these do; None for one run, or where ten thousand would not do.
    """

    key: str
    runs: int
    mean: float
    sd_ratio: float | None
    half_width_ratio: float | None
    runs_needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """
    What speaks for and against runs.

    Args:
        runs: run id → its checks.
        together: what there is to say of them as repeats.
        precision: how well they fix each metric.
        half_width_ratio: the precision that `runs_needed` is of.
    """

    runs: dict[str, list[Check]]
    together: list[Check]
    precision: list[Precision]
    half_width_ratio: float

    def verdict(self, numbers: Numbers) -> str:
        """`trustworthy`, or `not trustworthy`, or how many subjects nothing is known of."""
        about = [
            one
            for checks in [*self.runs.values(), self.together]
            for one in checks
            if one.spoils in {numbers, "all"}
        ]
        if any(one.weight == "problem" for one in about):
            return "not trustworthy"
        unknown = {one.subject for one in about if one.weight == "unknown"}
        if unknown:
            return f"trustworthy as far as was recorded; not known: {', '.join(sorted(unknown))}"
        return "trustworthy"

    @property
    def trustworthy(self) -> bool:
        """Whether no problem was found; what is not known is none."""
        return all(
            one.weight != "problem"
            for checks in [*self.runs.values(), self.together]
            for one in checks
        )


def trust(runs: RunSet, claimed_ratio: float | None) -> Trust:
    """
    Check runs one by one and together.

    Args:
        runs: one or more.
        claimed_ratio: half the interval that is claimed of the mean; None: nothing is.
    """
    wanted = claimed_ratio or SUGGESTED_RATIO
    fixed = precision(runs, wanted)
    return Trust(
        runs={record.run_id: check(record) for record in runs.records},
        together=check_repeats(runs, claimed_ratio, fixed),
        precision=fixed,
        half_width_ratio=wanted,
    )


def precision(runs: RunSet, claimed_ratio: float, *, alpha: float = ALPHA) -> list[Precision]:
    """How well *runs* fix each metric that `compare` judges by default."""
    found = []
    for key in defaults(runs, runs):
        values = [record.metrics[key].value for record in runs.records]
        sd = spread(values)
        found.append(
            Precision(
                key=key,
                runs=len(values),
                mean=math.exp(float(np.log(values).mean())),
                sd_ratio=sd,
                half_width_ratio=None
                if sd is None
                else half_width_ratio(sd, len(values), alpha=alpha),
                runs_needed=None if sd is None else runs_needed(sd, claimed_ratio, alpha=alpha),
            )
        )
    return found


def check_repeats(
    runs: RunSet, claimed_ratio: float | None, found: Sequence[Precision]
) -> list[Check]:
    """
    What speaks for and against the mean over the runs.

    Args:
        runs: of one thing.
        claimed_ratio: half the interval that is claimed; None: nothing is.
        found: of `precision`.
    """
    different = _differing(runs.records)
    if different:
        return [_problem(f"the runs are no repeats of one thing; not alike: {different}")]
    return [*_enough(runs, claimed_ratio, found), *_as_warm(runs.records)]


def _enough(runs: RunSet, claimed_ratio: float | None, found: Sequence[Precision]) -> list[Check]:
    count = len(runs.runs)
    short = []
    if count == 1:
        text = (
            "one run says nothing of how much runs differ: its intervals are the metering's "
            f"alone; make at least {FEW_RUNS} before a number is shown to others"
        )
        return [_problem(text) if claimed_ratio is not None else _note(text)]
    if count < FEW_RUNS:
        short.append(_problem(f"{count} runs: make at least {FEW_RUNS}"))
    if claimed_ratio is not None:
        short += [
            _problem(
                f"{one.key} is known to +-{one.half_width_ratio:.2%} by {one.runs} runs, not to "
                f"+-{claimed_ratio:.2%}: {_more(one)}"
            )
            for one in found
            if one.half_width_ratio is not None and one.half_width_ratio > claimed_ratio
        ]
    if short:
        return short
    return [
        Check(
            subject=SUBJECT,
            weight="good",
            spoils="all",
            code=SUBJECT,
            message=f"{count} runs of one thing"
            + ("" if claimed_ratio is None else f" fix each number to +-{claimed_ratio:.2%}"),
        )
    ]


def _more(one: Precision) -> str:
    if one.runs_needed is None:
        return "they scatter too much for any number of runs, find out why"
    return f"about {one.runs_needed} runs are needed"


def _as_warm(records: Sequence[RunRecord]) -> list[Check]:
    """Runs of which some began warmer than others are not quite runs of one thing."""
    starts: dict[str, list[float]] = {}
    for record in records:
        for uuid, gpu in gpus(record.provenance, "at_start").items():
            if gpu.get("temperature_c") is not None:
                starts.setdefault(uuid, []).append(gpu["temperature_c"])
    apart = {
        uuid: max(degrees) - min(degrees)
        for uuid, degrees in starts.items()
        if max(degrees) - min(degrees) > 2 * TOLERANCE_C
    }
    if not apart:
        return []
    listed = ", ".join(f"{uuid} by {degrees:g} C" for uuid, degrees in apart.items())
    return [
        Check(
            subject="start_temperature",
            weight="problem",
            spoils="energy",
            code="start_temperatures_differ",
            message=f"some runs began warmer than others ({listed}): let the GPU cool to the same "
            "temperature before each, as `joulemark regress` does",
        )
    ]


def _differing(records: Sequence[RunRecord]) -> str | None:
    described = [like_values(record) for record in records]
    keys = sorted({key for one in described for key in one})
    different = [key for key in keys if len({one.get(key) for one in described}) > 1]
    return ", ".join(different) or None


def _problem(message: str) -> Check:
    return Check(subject=SUBJECT, weight="problem", spoils="all", code=SUBJECT, message=message)


def _note(message: str) -> Check:
    return Check(subject=SUBJECT, weight="note", spoils="all", code=SUBJECT, message=message)
