"""How well repeats fix a mean, and how many would fix it as well as is claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import special

from .effects import ALPHA

MOST_RUNS: Final = 10_000
_TWO: Final = 2


def half_width_ratio(sd: float, n: int, *, alpha: float = ALPHA) -> float:
    """
    Half of Student's interval of a geometric mean, as a ratio of the mean.

    Args:
        sd: standard deviation of the logarithms over runs.
        n: runs, 2 or more.
        alpha: 1 - confidence.

    >>> round(half_width_ratio(0.01, 5), 5)
    0.01249
    """
    reach = float(special.stdtrit(n - 1, 1 - alpha / 2))
    return math.expm1(reach * sd / math.sqrt(n))


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of the logarithms over runs; None for fewer than two."""
    if len(values) < _TWO:
        return None
    return float(np.log(np.asarray(values, dtype=np.float64)).std(ddof=1))


def runs_needed(sd: float, wanted_ratio: float, *, alpha: float = ALPHA) -> int | None:
    """
    The fewest runs whose interval would be no wider, if they scatter as these do.

    Args:
        sd: standard deviation of the logarithms over runs.
        wanted_ratio: half the interval's width, above 0.
        alpha: 1 - confidence.

    Returns:
        2 or more; None for more than MOST_RUNS.

    >>> runs_needed(0.01, 0.01)
    7
    """
    low, high = _TWO, MOST_RUNS
    if half_width_ratio(sd, high, alpha=alpha) > wanted_ratio:
        return None
    while low < high:
        middle = (low + high) // 2
        if half_width_ratio(sd, middle, alpha=alpha) <= wanted_ratio:
            high = middle
        else:
            low = middle + 1
    return low
