"""Holds repeated values against a limit: below, above, or cannot tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from scipy import special

from .effects import ALPHA

_TWO: Final = 2


def mean_interval(values: Sequence[float], *, alpha: float = ALPHA) -> tuple[float, float] | None:
    """
    Student's interval of the geometric mean over repeats, at 1 - 2 alpha.

    Each end alone is wrong with a chance of *alpha*.

    Args:
        values: above 0, one a repeat.
        alpha: of each end.

    Returns:
        Low and high; None for fewer than two values, which have no scatter.
    """
    if len(values) < _TWO:
        return None
    logs = np.log(np.asarray(values, dtype=np.float64))
    half = float(special.stdtrit(len(logs) - 1, 1 - alpha)) * float(logs.std(ddof=1))
    half /= math.sqrt(len(logs))
    middle = float(logs.mean())
    return math.exp(middle - half), math.exp(middle + half)


def against_limit(
    low: float, high: float, limit: float
) -> Literal["below", "above", "cannot tell"]:
    """
    Where an interval lies against a limit.

    >>> against_limit(1, 2, 3), against_limit(4, 5, 3), against_limit(2, 4, 3)
    ('below', 'above', 'cannot tell')
    """
    if high <= limit:
        return "below"
    return "above" if low > limit else "cannot tell"
