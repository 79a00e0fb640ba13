"""Places a counter's ticks in time: a regular lattice through the brackets that polling saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from . import chance, polygon
from .numbering import JITTER_LIMIT_RATIO, allowed, numbered
from .steadiness import Steadiness, steadiness

if TYPE_CHECKING:
    import numpy.typing as npt

    from .counter import Knots

MIN_TICKS: Final = 4
"""Fewer say nothing about a period."""
_JITTERS: Final = (
    (1e3, 3e3, 0.30),
    (3e3, 1e4, 0.18),
    (1e4, 3e4, 0.10),
    (3e4, 1e5, 0.05),
    (1e5, 3e5, 0.04),
    (3e5, 1e6, 0.07),
    (1e6, 3e6, 0.12),
    (3e6, 1e7, 0.10),
    (1e7, 2e7, 0.04),
)
"""
By how much single ticks may be off the lattice: from, to (ns), and how likely that is before
anything was seen. A timer runs off a clock and is regular to microseconds, or off software
and is late by milliseconds. The brackets tell, where there are enough.
"""
_WIDE_RATIO: Final = 1.2
_STEPS: Final = 8
_POINTS: Final = 500
_FEW_RATIO: Final = 0.2
_ROUNDS: Final = 4
_FREEDOM: Final = 5.0
_INFLATION: Final = 1.5
_NOT_EXCLUDED: Final = 0.1
_NOTHING: Final = np.empty((0, 2))


@dataclass(frozen=True, slots=True)
class Numbers:
    """
    What is known of the ticks of a slow counter.

    Args:
        number: shape (n,), int64, increasing: which tick each is.
        low_took_ns: shape (n,): how long the reading took that each bracket starts with.
        high_took_ns: shape (n,): the same of the one that it ends with.
    """

    number: npt.NDArray[np.int64]
    low_took_ns: npt.NDArray[np.float64]
    high_took_ns: npt.NDArray[np.float64]


def numbers(knots: Knots, chosen: npt.NDArray[np.int64]) -> Numbers | None:
    """Those of some knots; None: they are not numbered."""
    if knots.number is None or knots.low_took_ns is None or knots.high_took_ns is None:
        return None
    return Numbers(knots.number[chosen], knots.low_took_ns[chosen], knots.high_took_ns[chosen])


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
        possible_ns: the largest jitter that the readings do not speak against, however
            unlikely it was held to be before them.
    """

    base_ns: float
    number: npt.NDArray[np.int64]
    last: int
    x_ns: npt.NDArray[np.float64]
    y_ns: npt.NDArray[np.float64]
    jitter_ns: npt.NDArray[np.float64]
    possible_ns: float

    @property
    def period_s(self) -> float:
        """The period, at the middle of what is allowed."""
        return float(np.mean(self.y_ns - self.x_ns) / self.last) / 1e9

    def draw_ns(
        self,
        random: np.random.Generator,
        knots: npt.NDArray[np.int64],
        low_ns: npt.NDArray[np.float64],
        high_ns: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """
        Instants of some ticks, drawn from all that the brackets allow.

        Args:
            random: where the draws come from.
            knots: shape (k,): indices of the knots wanted.
            low_ns: shape (k,): start of the bracket of each.
            high_ns: shape (k,): its end.

        Returns:
            Shape (draws, k), nanoseconds; a row is of one lattice, so that what the
            ticks have in common (the phase) is in all of them.
        """
        share = self.number[knots] / self.last
        ticks = self.base_ns + self.x_ns[:, None] + (self.y_ns - self.x_ns)[:, None] * share
        jitter = self.jitter_ns[:, None]
        first = np.clip(ticks - jitter, low_ns, high_ns)
        last = np.clip(ticks + jitter, low_ns, high_ns)
        drawn: npt.NDArray[np.float64] = first + random.random(ticks.shape) * (last - first)
        return drawn


def fit(
    low_ns: npt.NDArray[np.float64],
    high_ns: npt.NDArray[np.float64],
    random: np.random.Generator,
    draws: int,
    *,
    energy_j: npt.NDArray[np.float64] | None = None,
    quantum_j: float = 0.0,
    numbers: Numbers | None = None,
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
        energy_j: shape (n,): what the counter showed; an even rise tells of even ticks.
        quantum_j: its step.
        numbers: which tick each is; None: that is to be found out.

    Returns:
        None if there are too few ticks, or if they are on no lattice.
    """
    # Several ticks may have fallen into a bracket this wide; it is numbered at the end.
    narrow = high_ns - low_ns < _WIDE_RATIO * _usual_step((low_ns + high_ns) / 2)
    if numbers is not None:
        narrow[:] = True
    if np.count_nonzero(narrow) < MIN_TICKS:
        return None
    base_ns = float(low_ns[narrow][0])
    low, high = low_ns[narrow] - base_ns, high_ns[narrow] - base_ns
    shown_j = None if energy_j is None else energy_j[narrow]
    number: npt.NDArray[np.int64] | None
    if numbers is None:
        number = numbered(
            low, high, low_ns - base_ns, high_ns - base_ns, shown_j, most_ns=_JITTERS[-1][1]
        )
    else:
        number = numbers.number - numbers.number[0]
    if number is None:
        return None
    period_ns = float(high[-1]) / int(number[-1])
    even = None
    if energy_j is not None:
        even = steadiness(energy_j[narrow], number, period_ns=period_ns, quantum_j=quantum_j)
    found = _weigh(low, high, number, even, random, draws=draws, took=numbers)
    if found is None:
        return None
    x_ns, y_ns, jitter_ns, possible_ns = found
    period_ns = float(np.mean(y_ns - x_ns)) / int(number[-1])
    # The value read at a bracket's end is that of the last tick before it.
    last = (high_ns - base_ns - float(np.mean(x_ns))) / period_ns
    everywhere = np.floor(last).astype(np.int64)
    everywhere[narrow] = number
    return Lattice(base_ns, everywhere, int(number[-1]), x_ns, y_ns, jitter_ns, possible_ns)


def _usual_step(middle: npt.NDArray[np.float64]) -> float:
    """The time between ticks, of several at once: brackets as wide as it shift single ones."""
    apart = min(_STEPS, len(middle) - 1)
    if apart < 1:
        return np.inf
    return float(np.median(middle[apart:] - middle[:-apart])) / apart


def _weigh(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    even: Steadiness | None,
    random: np.random.Generator,
    *,
    draws: int,
    took: Numbers | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], float] | None:
    """Draws of x, y and jitter by their probability given the brackets; the largest possible."""
    points: list[npt.NDArray[np.float64]] = []
    weights: list[npt.NDArray[np.float64]] = []
    jitters: list[npt.NDArray[np.float64]] = []
    worth: list[tuple[float, float]] = []
    share = number / number[-1]
    limit_ns = JITTER_LIMIT_RATIO * float(high[-1]) / int(number[-1])
    for least_ns, most_ns, likely in _JITTERS:
        top_ns = min(most_ns, limit_ns)
        corners = allowed(low, high, number, top_ns) if least_ns < limit_ns else _NOTHING
        if len(corners) <= 2:  # noqa: PLR2004
            continue
        # A bracket that no lattice of these reaches the end of says nothing.
        ticks = corners[:, :1] + (corners[:, 1:] - corners[:, :1]) * share
        tells = (ticks.min(axis=0) - top_ns < low) | (ticks.max(axis=0) + top_ns > high)
        drawn, area = polygon.draw(corners, random, _POINTS)
        spare = np.full(_POINTS, np.log(area))
        for turn in range(_ROUNDS):
            jitter_ns = least_ns * (top_ns / least_ns) ** random.random(_POINTS)
            if took is None:
                log_chance = chance.quick(low[tells], high[tells], share[tells], drawn, jitter_ns)
            else:
                blur = took.low_took_ns[tells], took.high_took_ns[tells]
                log_chance = chance.slow(
                    low[tells], high[tells], share[tells], drawn, jitter_ns, blur=blur
                )
            if even is not None:
                log_chance = log_chance + even.log_chance(jitter_ns)
            weight = log_chance + spare + np.log(likely)
            each = np.exp(weight - weight.max())
            each /= each.sum()
            if 1 / np.sum(each**2) > _FEW_RATIO * _POINTS:
                break
            # Most of the polygon is out of the question: look where the rest is.
            if turn < _ROUNDS - 1:
                drawn, spare = _around(drawn, each, random)
        points.append(drawn)
        weights.append(weight)
        worth.append((top_ns, float(np.logaddexp.reduce(weight)) - np.log(likely)))
        jitters.append(jitter_ns)
    if not weights:
        return None
    together = np.concatenate(weights)
    share = np.exp(together - together.max())
    chosen = random.choice(len(share), size=draws, p=share / share.sum())
    x_ns, y_ns = np.concatenate(points)[chosen].T
    best = max(value for _, value in worth)
    possible_ns = max(top_ns for top_ns, value in worth if value > best + np.log(_NOT_EXCLUDED))
    return x_ns, y_ns, np.concatenate(jitters)[chosen], possible_ns


def _around(
    drawn: npt.NDArray[np.float64], share: npt.NDArray[np.float64], random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw from Student's t around weighted points; and minus the log of each one's density."""
    middle = share @ drawn
    off = drawn - middle
    spread = (off * share[:, None]).T @ off * _INFLATION + np.eye(2)
    root = np.linalg.cholesky(spread)
    normal = random.normal(size=drawn.shape)
    scale = np.sqrt(_FREEDOM / random.chisquare(_FREEDOM, len(drawn)))
    log_density = -(_FREEDOM / 2 + 1) * np.log1p(
        np.sum(normal**2, axis=1) * scale**2 / _FREEDOM
    ) - np.log(2 * np.pi * root[0, 0] * root[1, 1])
    return middle + (normal @ root.T) * scale[:, None], -log_density
