"""A test that may be looked at after every pair of runs, with its error rate kept all the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .effects import ALPHA
from .verdict import Direction, Word

PRIOR_VARIANCE: Final = 9.0
"""
Variance of the prior on the standardised change (change over scatter of a pair).

Any value keeps the error rate. This one expects changes worth finding to be a
few times the scatter: a firm answer from about five pairs on, where a prior of
1 would need about eight.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """
    What is known of one metric after some pairs.

    Args:
        word: the verdict so far; `cannot tell` means that it is still open.
        pairs: how many.
        ratio: candidate over base; None without a pair.
        low: lower end of the confidence sequence; None while it is unbounded.
        high: its upper end.
        e_value: evidence against no change; 1/alpha or more decides. None below two pairs.
    """

    word: Word
    pairs: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    e_value: float | None = None


def sequential(
    log_ratios: Sequence[float],
    *,
    threshold_ratio: float,
    better: Direction,
    alpha: float = ALPHA,
) -> Sequential:
    """
    Judge a metric from the pairs so far.

    The e-value of the t-test with a right-Haar prior on the scatter and a normal
    prior on the standardised change: the chance that it *ever* reaches 1/alpha
    where nothing has changed is at most alpha, so one may stop whenever one
    likes, a used-up budget included. The confidence sequence is what it does
    not reject. Both suppose independent pairs with normal scatter; the
    benchmark says what they do with others.

    Source: Pérez-Ortiz, Lardy, de Heide, Grünwald 2024, E-statistics, group
    invariance and anytime-valid testing; the closed form is that of Gönen et al. 2005.

    Args:
        log_ratios: of each pair, logarithm of candidate over base, in order.
        threshold_ratio: the smallest change that matters.
        better: which way is an improvement.
        alpha: rate of wrong *worse* or *better*, over all looks.
    """
    n = len(log_ratios)
    if n == 0:
        return Sequential(word="cannot tell", pairs=0)
    values = np.asarray(log_ratios, dtype=np.float64)
    shift = float(values.mean())
    if n == 1 or not values.std(ddof=1):
        return Sequential(word="cannot tell", pairs=n, ratio=math.exp(shift))
    error = float(values.std(ddof=1)) / math.sqrt(n)
    reach, inner = reach_t(n, alpha), reach_t(n, 2 * alpha)
    limit = math.log1p(threshold_ratio)
    word: Word = "cannot tell"
    if abs(shift) + inner * error <= limit:
        word = "same"
    elif abs(shift) >= reach * error and abs(shift) >= limit:
        word = "worse" if (shift > 0) == (better == "lower") else "better"
    bounded = math.isfinite(reach) and reach * error < math.log(1e6)
    return Sequential(
        word=word,
        pairs=n,
        ratio=math.exp(shift),
        low=math.exp(shift - reach * error) if bounded else None,
        high=math.exp(shift + reach * error) if bounded else None,
        e_value=e_value(shift / error, n),
    )


def e_value(t: float, n: int) -> float:
    """
    Evidence of *n* pairs with Student's *t* against no change.

    >>> e_value(0.0, 5) < 1 < 20 < e_value(9.0, 5)
    True
    """
    wide = 1 + n * PRIOR_VARIANCE
    x = t**2 / (n - 1)
    return math.exp(n / 2 * (math.log1p(x) - math.log1p(x / wide)) - math.log(wide) / 2)


def reach_t(n: int, alpha: float) -> float:
    """The t at which `e_value` is 1/alpha; infinite while n pairs can never decide."""
    wide = 1 + n * PRIOR_VARIANCE
    ratio = (math.sqrt(wide) / alpha) ** (2 / n)
    if ratio >= wide:
        return math.inf
    return math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / wide))
