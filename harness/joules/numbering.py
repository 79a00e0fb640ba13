"""Numbers the ticks that were seen, those left out included, so that a lattice fits them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from . import folding, polygon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

_FAR_RATIO: Final = 1.7
_REFINEMENTS: Final = 3
JITTER_LIMIT_RATIO: Final = 0.25
"""Ticks that are off a lattice by more than this share of its period are on none."""
_FIT_RATIO: Final = 0.12
"""As the ticks come, by this share of a period; with ticks left out, by the next one first."""
REGULAR_RATIO: Final = 0.01
_OTHER_RATIO: Final = 1.1
"""Once a numbering fits, others are looked for among those with up to so many times its ticks."""


def numbered(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    all_low: npt.NDArray[np.float64],
    all_high: npt.NDArray[np.float64],
    energy_j: npt.NDArray[np.float64] | None,
    *,
    most_ns: float,
) -> npt.NDArray[np.int64] | None:
    """
    The numbering that a lattice fits, as well as can be.

    Nearly any numbering fits a lattice whose ticks may be off by a lot, so first see
    whether one fits well.

    Args:
        low: shape (n,): start of the bracket of each tick that was seen by itself.
        high: shape (n,): its end.
        all_low: shape (m,): start of every bracket, those of several ticks included.
        all_high: shape (m,): its end.
        energy_j: shape (n,): what the counter showed; None: not known.
        most_ns: no tick is off a lattice by more.

    Returns:
        Shape (n,): which tick of the lattice each is, the first 0; None: they are on no lattice.
    """

    def fits(number: npt.NDArray[np.int64], most_ratio: float) -> bool:
        limit_ns = most_ratio * float(high[-1]) / int(number[-1])
        corners = allowed(low, high, number, min(limit_ns, most_ns))
        if len(corners) <= 2:  # noqa: PLR2004
            return False
        return _quiet(all_low, all_high, number, corners.mean(axis=0), limit_ns)

    middle = (low + high) / 2
    for number in _numberings(middle, scan=False):
        if fits(number, _FIT_RATIO):
            return number
    regular = _regular(low, high, fits)
    if regular:
        return folding.likeliest(regular, energy_j)
    for number in _numberings(middle, scan=True):
        if fits(number, JITTER_LIMIT_RATIO):
            return number
    return None


def _regular(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    fits: Callable[[npt.NDArray[np.int64], float], bool],
) -> list[npt.NDArray[np.int64]]:
    """Numberings with ticks left out under which the others are regular."""
    scanned = (n for n in _numberings((low + high) / 2, scan=True) if fits(n, REGULAR_RATIO))
    found = list(itertools.islice(scanned, 1))
    for number in folding.folded(low, high):
        if found and number[-1] > _OTHER_RATIO * found[0][-1]:
            break
        if fits(number, REGULAR_RATIO):
            found.append(number)
    return found


def _quiet(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    ends: npt.NDArray[np.float64],
    jitter_ns: float,
) -> bool:
    """Whether all ticks that were left out hide in brackets: between those nothing moved."""
    left_out = np.setdiff1d(np.arange(number[-1]), number)
    if not len(left_out):
        return True
    x, y = ends
    ticks = x + (y - x) * left_out / number[-1]
    before = np.searchsorted(low, ticks, side="right") - 1
    after = np.minimum(before + 1, len(low) - 1)
    off_ns = np.minimum(ticks - high[before], low[after] - ticks)
    return bool(np.all(off_ns < jitter_ns))


def _numberings(middle: npt.NDArray[np.float64], *, scan: bool) -> Iterator[npt.NDArray[np.int64]]:
    """
    Number the ticks, from none left out to every second one.

    A reading now and then comes too late to see each tick by itself. How many were
    left out is not known beforehand; the wrong numbers fit no lattice.
    """
    seen = len(middle) - 1
    yield np.arange(seen + 1)
    steps = np.diff(middle)
    far = steps > _FAR_RATIO * np.median(steps)
    if np.any(far) and not np.all(far):
        # All were seen but for those in a silence.
        counts = np.where(far, np.maximum(np.rint(steps / steps[~far].mean()), 1), 1)
        yield np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    if not scan:
        return
    for missed in range(1, seen + 1):
        slope, offset = (middle[-1] - middle[0]) / (seen + missed), middle[0]
        number = np.rint((middle - offset) / slope)
        for _ in range(_REFINEMENTS):
            slope, offset = np.polyfit(number, middle, 1)
            number = np.rint((middle - offset) / slope)
        number -= number[0]
        if np.all(np.diff(number) > 0):
            yield number.astype(np.int64)


def allowed(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    jitter_ns: float,
) -> npt.NDArray[np.float64]:
    """Corners of {(x, y): low - jitter <= x + (y - x) * number / last <= high + jitter}."""
    share = number / number[-1]
    upper = np.stack((1 - share, share), axis=1)
    first, last = ((float(low[k]) - jitter_ns, float(high[k]) + jitter_ns) for k in (0, -1))
    box = np.array(
        [(first[0], last[0]), (first[1], last[0]), (first[1], last[1]), (first[0], last[1])]
    )
    return polygon.cut(
        box,
        np.concatenate((upper, -upper)),
        np.concatenate((high + jitter_ns, jitter_ns - low)),
    )
