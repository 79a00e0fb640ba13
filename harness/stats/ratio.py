"""A ratio of two sums that grow together, such as joules a token, with its uncertainty so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import special

from .effects import ALPHA

MIN_BATCHES: Final = 5
"""Fewer say too little of how much batches differ."""


def ratio_half_width(
    numerators: Sequence[float], denominators: Sequence[float], *, alpha: float = ALPHA
) -> float | None:
    """
    Half of the interval of sum(numerators) / sum(denominators), over batches of time.

    The classical estimator of a ratio's variance, from the residuals
    numerator - ratio * denominator of each batch. It supposes that batches are
    independent: long waves in the load make it too narrow.

    Source: W. G. Cochran, Sampling Techniques, 3rd edition, section 6.3.

    Args:
        numerators: one a batch.
        denominators: one a batch; a batch may have 0, their sum must not.
        alpha: 1 - confidence.

    Returns:
        In units of the ratio; None for fewer than MIN_BATCHES batches, or a sum of 0.

    >>> round(ratio_half_width([1, 2, 1, 2, 1.5], [1, 1, 1, 1, 1]), 6)
    0.620832
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    count = len(above)
    if count < MIN_BATCHES or below.sum() <= 0:
        return None
    residuals = above - above.sum() / below.sum() * below
    error = math.sqrt(count / (count - 1) * float((residuals**2).sum())) / float(below.sum())
    return float(special.stdtrit(count - 1, 1 - alpha / 2)) * error
