"""Resamples runs, and requests within runs, to see how much a ratio could have been otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def bootstrap_logs(
    base: Floats,
    cand: Floats,
    *,
    draws: int,
    rng: np.random.Generator,
    spread: tuple[Sequence[Floats], Sequence[Floats]] | None = None,
) -> Floats:
    """
    Bootstrapped logarithms of the ratio candidate over base.

    Args:
        base: shape (n,), logarithms, one a run.
        cand: shape (m,), the same of the candidate.
        draws: how many.
        rng: the source of chance.
        spread: for each side and run the metric's logarithm over resampled
            requests; see `request_spread`. None: runs alone are resampled.

    Returns:
        Shape (draws,).
    """
    sides = spread or (None, None)
    means = [
        _means(logs, inner, draws, rng) for logs, inner in zip((base, cand), sides, strict=True)
    ]
    result: Floats = means[1] - means[0]
    return result


def request_spread(
    requests: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    draws: int,
    rng: np.random.Generator,
) -> Floats:
    """
    What a run's metric would have been with other requests of the same kind.

    Args:
        requests: shape (k,), one value a request, above 0.
        statistic: from shape (draws, k) to shape (draws,), e.g. a percentile along the last axis.
        draws: how many.
        rng: the source of chance.

    Returns:
        Shape (draws,), logarithms.
    """
    picked = requests[rng.integers(0, len(requests), size=(draws, len(requests)))]
    return np.log(statistic(picked))


def _means(
    logs: Floats, inner: Sequence[Floats] | None, draws: int, rng: np.random.Generator
) -> Floats:
    n = len(logs)
    runs = rng.integers(0, n, size=(draws, n))
    values = logs[runs]
    if inner is not None:
        # A run's own scatter about its value, not a new value: a percentile over
        # resampled requests is biased, and the bias is the same on both sides.
        depth = min(len(one) for one in inner)
        scatter = np.stack([one[:depth] - one[:depth].mean() for one in inner])
        values = values + scatter[runs, rng.integers(0, depth, size=(draws, n))]
    result: Floats = values.mean(axis=1)
    return result
