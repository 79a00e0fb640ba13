"""Tests whether a rate kept one level: where a start-up ends, and any step or dip after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_TERMS: Final = 20
_MATERIAL_RATIO: Final = 0.05
"""A change of less than this share of the level is left alone, however sure it is."""
_SHARP_P: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """
    A stretch in which the level was another.

    Args:
        first: its first bin.
        last: the bin after its last.
        change_ratio: its mean over the mean of the rest, less one.
        p_value: of a level that never changed being as uneven as this.
    """

    first: int
    last: int
    change_ratio: float
    p_value: float


def start_up(rates: Floats) -> int:
    """
    How many bins at the beginning belong to a start-up; 0: none do.

    The truncation that minimises the standard error of the rest's mean (MSER),
    taken only if what is cut off differs from the rest by 5 % or more and stands
    out of its scatter. A truncation beyond the middle is not taken: then there is
    too little left to tell a start-up from a run that never became level.

    Source: K. P. White, "An effective truncation heuristic for bias reduction in
    simulation output", Simulation 69 (1997).

    Args:
        rates: shape (n,), of equal bins in order of time.
    """
    count = len(rates)
    half = count // 2
    if half < 2:  # noqa: PLR2004 - nothing to compare
        return 0
    errors = [rates[cut:].var() / (count - cut) for cut in range(half + 1)]
    cut = int(np.argmin(errors))
    if cut == 0:
        return 0
    rest = rates[cut:]
    level, scatter = float(rest.mean()), float(rest.std(ddof=1))
    gap = abs(float(rates[:cut].mean()) - level)
    stands_out = gap > 3 * scatter / np.sqrt(cut)
    return cut if level > 0 and gap >= _MATERIAL_RATIO * level and stands_out else 0


def shift(rates: Floats) -> Shift | None:
    """
    The stretch that differs most from the rest, if chance would not make it.

    Cumulative sums of the deviations from the mean, in units of the scatter from
    one bin to the next, are a Brownian bridge if the level never changed; their
    range then has Kuiper's distribution. Unlike a test of trend this sees a step
    in the middle and a dip that ends again.

    Source: N. H. Kuiper, "Tests concerning random points on a circle" (1960); for
    the use on rescaled sums: W. Ploberger and W. Kraemer, Econometrica 60 (1992).

    Args:
        rates: shape (n,), of equal bins in order of time.

    Returns:
        None if p is 1 % or more, or the change is below 5 % of the level.
    """
    count = len(rates)
    mean = float(rates.mean()) if count else 0.0
    if count < 4 or mean <= 0:  # noqa: PLR2004 - too few to tell scatter from shift
        return None
    # Two bins apart, because requests that last longer than a bin tie neighbours together.
    scatter = float(np.sqrt(np.mean((rates[2:] - rates[:-2]) ** 2) / 2))
    sums = np.concatenate([[0.0], np.cumsum(rates - mean)])
    low, high = sorted((int(sums.argmin()), int(sums.argmax())))
    inside, outside = rates[low:high], np.concatenate([rates[:low], rates[high:]])
    if not len(inside) or not len(outside):
        return None
    spread = float(np.ptp(sums))
    p_value = _kuiper(spread / (scatter * np.sqrt(count))) if scatter > 0 else 0.0
    # Floats of Python: dividing by next to nothing gives infinity, without a warning.
    within, without = float(inside.mean()), float(outside.mean())
    change = within / without - 1 if without > 0 else float("inf")
    if p_value >= _SHARP_P or abs(change) < _MATERIAL_RATIO:
        return None
    return Shift(first=low, last=high, change_ratio=change, p_value=p_value)


def _kuiper(reach: float) -> float:
    """Probability that the range of a Brownian bridge exceeds *reach*."""
    if reach < 0.4:  # noqa: PLR2004 - the series is 1 there, but converges slowly
        return 1.0
    terms = (np.arange(1, _TERMS + 1) * reach) ** 2
    return float(min(1.0, np.sum(2 * (4 * terms - 1) * np.exp(-2 * terms))))
