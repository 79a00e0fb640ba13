"""Numbers a counter's ticks by folding: one period and phase that lie in all brackets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_PER_PERIOD: Final = 24
"""Over all ticks together, two periods tried next to each other drift apart by so small a part."""
_MISSED_RATIO: Final = 1.5
"""Ticks that may have gone unseen, for each that was seen."""
_TELLING_RATIO: Final = 0.15
"""At a period that fewer of the brackets are shorter than, any phase would do."""
_FEW: Final = 20
_BINS: Final = 48
_MORE_EVEN_RATIO: Final = 0.5
""""By far": the power from tick to tick varies at most so much as under any other numbering."""


def folded(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> Iterator[npt.NDArray[np.int64]]:
    """
    Numberings under which one regular lattice passes through every bracket that tells.

    Brackets as wide as the period, which polling about as often as the counter ticks leaves, have
    middles that are off the lattice by half of it, and a bracket may hold two ticks. Their ends
    still tell: folded by the right period, all have a phase in common.

    Args:
        low: shape (n,), nanoseconds: start of each bracket.
        high: shape (n,): its end, at which the last tick before it had been.

    Yields:
        Shape (n,), int64, strictly increasing from 0: the fewest missed first.
    """
    seen = len(low) - 1
    if seen < 1:
        return
    shortest, longest = float(low[-1] - high[0]), float(high[-1] - low[0])
    for missed in range(int(seen * _MISSED_RATIO) + 1):
        last = seen + missed
        if np.mean(high - low < longest / last) < _TELLING_RATIO:
            return
        tries = max(int(np.ceil((longest - shortest) / (longest / last) * _PER_PERIOD)), 1)
        widest, found = 0.0, (0.0, 0.0)
        for period in _possible(low, high, np.linspace(max(shortest, 1.0), longest, tries) / last):
            phase, width = _common(low, high, float(period))
            if width > widest:
                widest, found = width, (float(period), phase)
        if widest > 0:
            period, phase = found
            # A tick during the call that ends one bracket may be that of the next.
            later = np.arange(seen + 1)
            number = np.floor((high - phase) / period) - later
            number = np.minimum.accumulate(number[::-1])[::-1] + later
            if np.all(number >= np.ceil((low - phase) / period)):
                yield (number - number[0]).astype(np.int64)


def _possible(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    periods: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Those of *periods* by which a few of the brackets, at least, have a phase in common."""
    few = np.unique(np.linspace(0, len(low) - 1, _FEW).astype(np.int64))
    phase = np.arange(_BINS) / _BINS
    start = (low[few] / periods[:, None])[:, :, None]
    length = ((high - low)[few] / periods[:, None])[:, :, None]
    inside = np.mod(phase - start + 1 / _BINS, 1.0) <= length + 2 / _BINS
    return periods[np.any(np.all(inside, axis=1), axis=1)]


def likeliest(
    candidates: Sequence[npt.NDArray[np.int64]], energy_j: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.int64] | None:
    """
    The one numbering that is left, or under which the power is by far the most even.

    Args:
        candidates: numberings that the brackets allow.
        energy_j: shape (n,): what the counter showed at each bracket's end; None: not known.

    Returns:
        None if there is none, or if several are as good.
    """
    # With as many ticks in all, they are of one lattice but for a tick during a call.
    different = list({int(number[-1]): number for number in candidates}.values())
    if len(different) < 2:  # noqa: PLR2004
        return different[0] if different else None
    if energy_j is None:
        return None
    uneven = []
    for number in different:
        per_tick_j = np.diff(energy_j) / np.diff(number)
        uneven.append(float(np.std(per_tick_j) / np.mean(per_tick_j)))
    first, second = np.argsort(uneven)[:2]
    return different[first] if uneven[first] < _MORE_EVEN_RATIO * uneven[second] else None


def _common(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], period: float
) -> tuple[float, float]:
    """The middle of the phases that lie in every bracket, and how wide they reach; 0: none do."""
    tells = high - low < period
    if not np.any(tells):
        return 0.0, period
    start = np.mod(low[tells], period)
    end = start + (high - low)[tells]
    # Twice around, so that a bracket over the fold is whole once.
    edges = np.concatenate((start, start + period, end, end + period))
    change = np.repeat((1, -1), 2 * len(start))
    order = np.lexsort((-change, edges))
    held = np.cumsum(change[order])[:-1]
    whole = np.flatnonzero((held == len(start)) & (edges[order][:-1] >= period))
    if not len(whole):
        return 0.0, 0.0
    at = whole[int(np.argmax(np.diff(edges[order])[whole]))]
    begin, until = edges[order][at], edges[order][at + 1]
    return float(np.mod((begin + until) / 2, period)), float(until - begin)
