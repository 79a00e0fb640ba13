"""Intervals of a least-squares fit whose residuals go together, and whether it should bend."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_LEVEL: Final = 0.95
_BENT_LEVEL: Final = 0.999


def half_widths(
    design: Floats, residuals: Floats, free: Mask, lags: int, level: float = _LEVEL
) -> Floats:
    """
    Half of each coefficient's interval, by Newey and West or of independent residuals: the wider.

    Args:
        design: shape (n, k).
        residuals: shape (n,), in order of time.
        free: shape (k,): not at its bound; the others are treated as if they were free.
        lags: so many neighbours go together.
        level: of the interval.

    Returns:
        Shape (k,); infinite where the design does not tell.
    """
    count, width = design.shape
    try:
        inverse = np.linalg.inv(design.T @ design)
    except np.linalg.LinAlgError:
        return np.full(width, np.inf)
    scores = design * residuals[:, None]
    meat = scores.T @ scores
    for lag in range(1, min(lags, count - 1) + 1):
        weight = 1 - lag / (lags + 1)
        both = scores[lag:].T @ scores[:-lag]
        meat += weight * (both + both.T)
    degrees = max(count - int(free.sum()), 1)
    together = np.diag(inverse @ meat @ inverse) * count / degrees
    apart = np.diag(inverse) * float(residuals @ residuals) / degrees
    # How neighbours go together is known as from so few independent residuals (Bartlett's window).
    few = min(1.5 * count / (lags + 1), degrees)
    reach_together, reach = (float(stats.t.ppf((1 + level) / 2, own)) for own in (few, degrees))
    half: Floats = np.maximum(
        reach_together * np.sqrt(np.maximum(together, 0.0)), reach * np.sqrt(apart)
    )
    return half


def bend_ratio(
    design: Floats, rate: Floats, power_w: Floats, residuals: Floats, lags: int
) -> float | None:
    """
    Of the squared residuals, what is left if power may also go with the square of a rate.

    Args:
        design: shape (n, k), each column of length 1.
        rate: shape (n,), whose square is tried.
        power_w: shape (n,).
        residuals: shape (n,), without it.
        lags: as of `half_widths`.

    Returns:
        None: it cannot be told (at 99.9 %) to bend.
    """
    square = rate**2
    size, before = float(np.linalg.norm(square)), float(residuals @ residuals)
    if size == 0 or before == 0:
        return None
    bent = np.column_stack([design, square / size])
    solution, _, rank, _ = np.linalg.lstsq(bent, power_w, rcond=None)
    if rank < bent.shape[1]:
        return None
    left = power_w - bent @ solution
    half = half_widths(bent, left, np.ones(bent.shape[1], np.bool_), lags, _BENT_LEVEL)
    if abs(float(solution[-1])) <= half[-1]:
        return None
    return float(left @ left) / before
