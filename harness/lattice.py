"""Places a counter's ticks in time: a regular lattice through the brackets that polling saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

_Points = list[tuple[float, float]]

MIN_TICKS: Final = 4
"""Fewer say nothing about a period."""
_JITTERS_NS: Final = {6e4: 1.0, 2e5: 0.1, 1e6: 0.02, 3e6: 0.007, 1e7: 0.002}
"""
By how much single ticks may be off the lattice, and how likely that is before anything
was seen. A timer is regular or it is not: the brackets tell, where there are enough.
"""
_GOOD_JITTER_NS: Final = 1e6
_WIDE_RATIO: Final = 1.2
_FAR_RATIO: Final = 1.7
_REFINEMENTS: Final = 3
_JITTER_LIMIT_RATIO: Final = 0.25
"""Ticks that are off a lattice by more than this share of its period are on none."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """
    Draws of regular lattices that the brackets allow: tick n at x + (y - x) * n / n_last.

    Args:
        base_ns: the instant from which x and y count.
        number: shape (n,), int64: which tick of the lattice each knot is.
        last: n_last, the tick that y is.
        x_ns: shape (draws,): tick 0.
        y_ns: shape (draws,): the last tick.
        jitter_ns: shape (draws,): each tick may be off the lattice by this much.
    """

    base_ns: float
    number: npt.NDArray[np.int64]
    last: int
    x_ns: npt.NDArray[np.float64]
    y_ns: npt.NDArray[np.float64]
    jitter_ns: npt.NDArray[np.float64]

    @property
    def period_s(self) -> float:
        """The period, at the middle of what is allowed."""
        return float(np.mean(self.y_ns - self.x_ns) / self.last) / 1e9

    def draw_ns(
        self, random: np.random.Generator, knots: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """
        Instants of some ticks, drawn from all that the brackets allow.

        Args:
            random: where the draws come from.
            knots: shape (k,): indices of the knots wanted.

        Returns:
            Shape (draws, k), nanoseconds; a row is of one lattice, so that what the
            ticks have in common (the phase) is in all of them.
        """
        share = self.number[knots] / self.last
        ticks = self.x_ns[:, None] + (self.y_ns - self.x_ns)[:, None] * share
        shift = random.uniform(-1.0, 1.0, size=ticks.shape) * self.jitter_ns[:, None]
        drawn: npt.NDArray[np.float64] = self.base_ns + ticks + shift
        return drawn


def fit(
    low_ns: npt.NDArray[np.float64],
    high_ns: npt.NDArray[np.float64],
    random: np.random.Generator,
    draws: int,
) -> Lattice | None:
    """
    Draw regular lattices that pass through all brackets.

    A tick with jitter j is uniform within j of its lattice; that it fell into its
    bracket has the probability of their overlap. The product over the ticks weighs
    the lattices, and their sum the jitters: with wide brackets a large jitter stays
    possible, with many narrow ones that all fit it does not.

    Args:
        low_ns: shape (n,): start of each tick's bracket.
        high_ns: shape (n,): its end.
        random: where the draws come from.
        draws: how many lattices.

    Returns:
        None if there are too few ticks, or if they are on no lattice.
    """
    steps = np.diff((low_ns + high_ns) / 2)
    # Several ticks may have fallen into a bracket this wide; it is numbered at the end.
    narrow = (
        high_ns - low_ns < _WIDE_RATIO * np.median(steps)
        if len(steps)
        else np.ones(len(low_ns), dtype=np.bool_)
    )
    if np.count_nonzero(narrow) < MIN_TICKS:
        return None
    base_ns = float(low_ns[narrow][0])
    low, high = low_ns[narrow] - base_ns, high_ns[narrow] - base_ns
    # Nearly any numbering fits a lattice whose ticks may be off by a lot, so first see
    # whether one fits well.
    for most_ns in (_GOOD_JITTER_NS, max(_JITTERS_NS)):
        for number in _numberings((low + high) / 2):
            limit_ns = min(most_ns, _JITTER_LIMIT_RATIO * float(high[-1]) / int(number[-1]))
            # Without an area at the largest jitter there is none at the others.
            if len(_polygon(low - limit_ns, high + limit_ns, number)) > 2:  # noqa: PLR2004
                found = _weigh(low, high, number, random, draws=draws)
                if found is not None:
                    x_ns, y_ns, jitter_ns = found
                    period_ns = float(np.mean(y_ns - x_ns)) / int(number[-1])
                    # The value read at a bracket's end is that of the last tick before it.
                    last = (high_ns - base_ns - float(np.mean(x_ns))) / period_ns
                    everywhere = np.floor(last).astype(np.int64)
                    everywhere[narrow] = number
                    return Lattice(base_ns, everywhere, int(number[-1]), x_ns, y_ns, jitter_ns)
    return None


def _weigh(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    random: np.random.Generator,
    *,
    draws: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Draws of x, y and jitter by their probability given the brackets."""
    points: list[npt.NDArray[np.float64]] = []
    weights: list[npt.NDArray[np.float64]] = []
    jitters: list[npt.NDArray[np.float64]] = []
    share = number / number[-1]
    for jitter_ns, likely in _JITTERS_NS.items():
        corners = _polygon(low - jitter_ns, high + jitter_ns, number)
        if len(corners) <= 2:  # noqa: PLR2004
            continue
        drawn, area = _draw(np.array(corners), random, 2 * draws)
        ticks = drawn[:, :1] + (drawn[:, 1:] - drawn[:, :1]) * share
        overlap = np.minimum(ticks + jitter_ns, high) - np.maximum(ticks - jitter_ns, low)
        chance = np.clip(overlap / (2 * jitter_ns), 1e-9, 1.0)
        points.append(drawn)
        weights.append(np.log(chance).sum(axis=1) + np.log(area * likely))
        jitters.append(np.full(len(drawn), jitter_ns))
    if not points:
        return None
    together = np.concatenate(weights)
    chances = np.exp(together - together.max())
    chosen = random.choice(len(chances), size=draws, p=chances / chances.sum())
    x_ns, y_ns = np.concatenate(points)[chosen].T
    return x_ns, y_ns, np.concatenate(jitters)[chosen]


def _draw(
    corners: npt.NDArray[np.float64], random: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Draw points uniformly from a convex polygon, and give its area."""
    first, second, third = corners[0], corners[1:-1], corners[2:]
    # A convex polygon is a fan of triangles; draw one by area, then a point in it.
    a, b = second - first, third - first
    areas = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2 + 1e-9
    chosen = random.choice(len(areas), size=count, p=areas / areas.sum())
    u, v = random.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points: npt.NDArray[np.float64] = first + u[:, None] * a[chosen] + v[:, None] * b[chosen]
    return points, float(areas.sum())


def _numberings(middle: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.int64]]:
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
    for missed in range(1, seen + 1):
        slope, offset = (middle[-1] - middle[0]) / (seen + missed), middle[0]
        number = np.rint((middle - offset) / slope)
        for _ in range(_REFINEMENTS):
            slope, offset = np.polyfit(number, middle, 1)
            number = np.rint((middle - offset) / slope)
        number -= number[0]
        if np.all(np.diff(number) > 0):
            yield number.astype(np.int64)


def _polygon(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], number: npt.NDArray[np.int64]
) -> _Points:
    """Corners of {(x, y): low <= x + (y - x) * number / last <= high}, empty if there are none."""
    first, last = (float(low[0]), float(high[0])), (float(low[-1]), float(high[-1]))
    corners: _Points = [
        (first[0], last[0]),
        (first[1], last[0]),
        (first[1], last[1]),
        (first[0], last[1]),
    ]
    share = number / number[-1]
    # Narrow brackets first: they cut most, and the wide ones then cut nothing.
    for k in np.argsort(high - low):
        b = float(share[k])
        corners = _clip(corners, 1 - b, b, float(high[k]))
        corners = _clip(corners, b - 1, -b, -float(low[k]))
        if not corners:
            break
    return corners


def _clip(corners: _Points, a: float, b: float, limit: float) -> _Points:
    """The part of a convex polygon where a * x + b * y <= limit."""
    over = [a * x + b * y - limit for x, y in corners]
    if max(over, default=0.0) <= 0:
        return corners
    kept: _Points = []
    for k, point in enumerate(corners):
        previous = corners[k - 1]
        if (over[k] <= 0) != (over[k - 1] <= 0):
            part = over[k - 1] / (over[k - 1] - over[k])
            kept.append(
                (
                    previous[0] + part * (point[0] - previous[0]),
                    previous[1] + part * (point[1] - previous[1]),
                )
            )
        if over[k] <= 0:
            kept.append(point)
    return kept
