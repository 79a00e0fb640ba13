"""Finds when a metric's level changed over many runs: ruptures proposes, a test confirms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import ruptures  # type: ignore[import-untyped]

from .effects import ALPHA, Effect, effect

MIN_RUNS: Final = 3
"""Runs a level must last to be called one."""
_PENALTY: Final = 3.0
"""Times log n: PELT's price of a change point in units of the scatter's variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One change of level.

    Args:
        index: of the first run after it.
        effect: the level after over the level before, up to the changes beside it.
    """

    index: int
    effect: Effect


def changes(
    values: Sequence[float], *, alpha: float = ALPHA, threshold_ratio: float = 0.0
) -> list[Change]:
    """
    Where the level of a series of runs changed.

    PELT (Killick 2012) with a cost of squared deviations of the logarithms,
    their scatter taken from successive differences so that a change does not
    inflate it. What it proposes is kept where Welch's t between the two
    levels beside it survives a Bonferroni correction for all the places where a
    change could have been, and the change is at least *threshold_ratio*.

    Args:
        values: above 0, in order of time.
        alpha: about the share of series without a change in which one is found.
        threshold_ratio: smaller changes are left out.

    Returns:
        In order; empty where there is none, or fewer than 2 MIN_RUNS runs.
    """
    n = len(values)
    if n < 2 * MIN_RUNS:
        return []
    logs = np.log(np.asarray(values, dtype=np.float64))
    # The median absolute difference, scaled to a normal's standard deviation.
    scatter = float(np.median(np.abs(np.diff(logs)))) / (0.6745 * math.sqrt(2))
    if scatter == 0:
        scatter = float(np.diff(logs).std()) or 1.0
    scaled = ((logs - logs.mean()) / scatter)[:, None]
    search = ruptures.Pelt(model="l2", min_size=MIN_RUNS, jump=1).fit(scaled)
    ends = [0, *search.predict(pen=_PENALTY * math.log(n))]
    while True:
        found = [
            Change(index=end, effect=effect(values[start:end], values[end:after], alpha=alpha))
            for start, end, after in zip(ends, ends[1:], ends[2:], strict=False)
        ]
        weak = [one for one in found if not _holds(one.effect, n, alpha, threshold_ratio)]
        if not weak:
            return found
        # The weakest goes first: what is left between its neighbours is then judged anew.
        ends.remove(max(weak, key=lambda one: one.effect.p or 0.0).index)


def _holds(one: Effect, n: int, alpha: float, threshold_ratio: float) -> bool:
    if one.p is None:
        # Levels without any scatter: a change between them is plain to see.
        return one.missing is not None and abs(math.log(one.ratio)) > math.log1p(threshold_ratio)
    places = n - 2 * MIN_RUNS + 1
    return one.p * places <= alpha and abs(math.log(one.ratio)) >= math.log1p(threshold_ratio)
