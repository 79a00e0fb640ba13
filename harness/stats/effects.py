"""Compares one metric of two sets of runs: ratio, interval over runs, tests that can fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from .bootstrap import bootstrap_logs

Floats = npt.NDArray[np.float64]

ALPHA: Final = 0.05
"""Share of wrong alarms, over all judged metrics together, where nothing has changed."""
_EXACT_PERMUTATIONS: Final = 20_000
_RANDOM_PERMUTATIONS: Final = 9_999
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """
    How a metric of the candidate's runs stands to that of the base's.

    Everything is computed on logarithms, so that a ratio and its inverse are
    the same distance from 1, and the mean is the geometric one.

    Args:
        ratio: candidate over base, of geometric means over runs.
        low: lower end of the interval; None where the runs do not support one.
        high: upper end.
        confidence: of low and high, e.g. 0.95.
        inner_low: lower end of the interval at 1 - 2 (1 - confidence), by which
            equivalence is judged: two one-sided tests at 1 - confidence each.
        inner_high: its upper end.
        p: two-sided p-value of Welch's t over runs; None without an interval.
        p_permutation: of the studentised permutation test; None where too few
            runs are there for it ever to fall below 1 - confidence.
        sd_base: run-to-run standard deviation of the base's logarithms, so about a
            ratio: 0.01 is 1 %; None with one run.
        sd_cand: of the candidate's.
        n_base: runs.
        n_cand: runs.
        missing: why there is no interval; None if there is one.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    confidence: float = 1 - ALPHA
    inner_low: float | None = None
    inner_high: float | None = None
    p: float | None = None
    p_permutation: float | None = None
    sd_base: float | None = None
    sd_cand: float | None = None
    n_base: int
    n_cand: int
    missing: str | None = None

    @property
    def sd(self) -> float | None:
        """Root mean square of the two sides' standard deviations."""
        if self.sd_base is None or self.sd_cand is None:
            return None
        return math.sqrt((self.sd_base**2 + self.sd_cand**2) / 2)


def effect(
    base: Sequence[float] | Floats,
    cand: Sequence[float] | Floats,
    *,
    alpha: float = ALPHA,
    seed: int = 0,
    draws: int = 4_000,
    spread: tuple[Sequence[Floats], Sequence[Floats]] | None = None,
) -> Effect:
    """
    Compare two sets of runs in one metric.

    The interval is the hull of two: Welch's, which is right for few runs with
    normal scatter, and a bootstrap's over runs, expanded for few runs, which
    follows the data's own shape. Neither alone holds what it promises for both
    five runs and heavy tails (`docs/benchmarks/verdict.md`).

    Args:
        base: one value a run, above 0.
        cand: one value a run, above 0.
        alpha: 1 - confidence.
        seed: of the bootstrap and of the permutations, where they are drawn.
        draws: of the bootstrap.
        spread: for each side and run, logarithms of the metric recomputed over
            resampled requests of that run; the bootstrap then draws a run and
            within it one of these, so that it sees both scatters.

    Returns:
        The effect; without an interval where a side has one run only, or where no
        run differs from another, which no measurement of anything real shows.

    Raises:
        ValueError: a side is empty, or a value is not a finite number above 0.
    """
    logs_base, logs_cand = _logs(base), _logs(cand)
    n, m = len(logs_base), len(logs_cand)
    shift = float(logs_cand.mean() - logs_base.mean())
    if min(n, m) == 1:
        return Effect(
            ratio=math.exp(shift),
            n_base=n,
            n_cand=m,
            missing="one run on a side says nothing of how much runs differ",
        )
    sd_base, sd_cand = float(logs_base.std(ddof=1)), float(logs_cand.std(ddof=1))
    error_base, error_cand = sd_base**2 / n, sd_cand**2 / m
    error = math.sqrt(error_base + error_cand)
    if error <= _TIE * max(1.0, abs(shift)):
        return Effect(
            ratio=math.exp(shift),
            sd_base=sd_base,
            sd_cand=sd_cand,
            n_base=n,
            n_cand=m,
            missing="the runs of each side are identical, which no measurement's are",
        )
    freedom = error**4 / (error_base**2 / (n - 1) + error_cand**2 / (m - 1))
    rng = np.random.default_rng(seed)
    drawn = bootstrap_logs(logs_base, logs_cand, draws=draws, rng=rng, spread=spread)
    ends = []
    for one in (alpha, 2 * alpha):
        quantile = float(special.stdtrit(freedom, 1 - one / 2))
        # Hesterberg 2015, section 5: a percentile interval of n runs is as narrow as if their
        # variance were divided by n, not n - 1, and as if it were known; both are put right.
        wide = float(special.ndtr(-quantile * math.sqrt(_harmonic(n, m) / (_harmonic(n, m) - 1))))
        low, high = np.quantile(drawn, [wide, 1 - wide])
        ends.append(
            (
                math.exp(min(float(low), shift - quantile * error)),
                math.exp(max(float(high), shift + quantile * error)),
            )
        )
    return Effect(
        ratio=math.exp(shift),
        low=ends[0][0],
        high=ends[0][1],
        confidence=1 - alpha,
        inner_low=ends[1][0],
        inner_high=ends[1][1],
        p=float(2 * special.stdtr(freedom, -abs(shift) / error)),
        p_permutation=permutation_p(logs_base, logs_cand, alpha=alpha, rng=rng),
        sd_base=sd_base,
        sd_cand=sd_cand,
        n_base=n,
        n_cand=m,
    )


def permutation_p(
    base: Floats, cand: Floats, *, alpha: float, rng: np.random.Generator
) -> float | None:
    """
    Two-sided p-value of the permutation test with Welch's t as its statistic.

    Exact where nothing but the label differs, and still right in the limit
    where the variances differ, which the plain difference of means is not
    (Janssen 1997; Chung and Romano 2013).

    Args:
        base: shape (n,), n of 2 or more.
        cand: shape (m,), m of 2 or more.
        alpha: the level it is to be held against.
        rng: draws permutations where there are too many to go through.

    Returns:
        The p-value; None where even the most extreme arrangement is not below *alpha*.
    """
    n, m = len(base), len(cand)
    count = math.comb(n + m, n)
    # With equal sides each arrangement and its mirror are as extreme as one another.
    if (2 if n == m else 1) / count > alpha:
        return None
    pooled = np.concatenate([base, cand])
    if count <= _EXACT_PERMUTATIONS:
        chosen = np.array(list(combinations(range(n + m), n)))
    else:
        keys = rng.random((_RANDOM_PERMUTATIONS, n + m))
        chosen = np.argpartition(keys, n, axis=1)[:, :n]
    picked = np.zeros((len(chosen), n + m), dtype=bool)
    np.put_along_axis(picked, chosen, values=True, axis=1)
    statistics = _welch(pooled, picked)
    own = abs(_welch(pooled, (np.arange(n + m) < n)[None, :])[0])
    extreme = int((np.abs(statistics) >= own * (1 - _TIE)).sum())
    if count <= _EXACT_PERMUTATIONS:
        return extreme / len(chosen)
    return (extreme + 1) / (len(chosen) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Holm's adjustment of p-values, for any dependence between them.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [1.0] * len(p_values)
    running = 0.0
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def _logs(values: Sequence[float] | Floats) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not (np.isfinite(array) & (array > 0)).all():
        msg = f"a set of runs needs finite values above 0, one a run, not {array!r}"
        raise ValueError(msg)
    return np.log(array)


def _harmonic(n: int, m: int) -> float:
    return 2 * n * m / (n + m)


def _welch(values: Floats, picked: npt.NDArray[np.bool_]) -> Floats:
    """Welch's t of each row's picked values against the others; shape (rows,)."""
    n = picked.sum(axis=1)
    m = len(values) - n
    centred = values - values.mean()
    sums, squares = picked @ centred, picked @ centred**2
    rest, rest_squares = centred.sum() - sums, (centred**2).sum() - squares
    variance = (squares - sums**2 / n) / (n - 1) / n
    variance += (rest_squares - rest**2 / m) / (m - 1) / m
    difference = rest / m - sums / n
    # Both groups constant: as extreme as can be if their means differ, else not at all.
    floor = _TIE**2 * (centred**2).mean()
    result: Floats = difference / np.sqrt(np.maximum(variance, floor))
    return result
