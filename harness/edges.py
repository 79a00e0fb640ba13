"""Moves a window's edges to counter ticks, and says what energy at an edge can be."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from . import lattice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from .counter import Knots

DRAWS: Final = 1000
"""Draws of everything unknown."""
JOINT_LIMIT_NS: Final = 40e9
"""Longer windows get a lattice of their own at each edge: no crystal is steady for ever."""
REACH_NS: Final = 12e9
"""How far around an edge ticks are used for the lattice."""
_BURST_NS: Final = 150e6
_NEIGHBOURS: Final = 3
_ONE_SIDED_RATIO: Final = 0.2
_UNSEEN_RATIOS: Final = (0.1, 0.85)
_SUSPICION: Final = 10.0
"""A sensor that straddles a step now and then comes near the mean by accident."""


@dataclass(frozen=True, slots=True)
class Placed:
    """
    The knots around one edge, with draws of when each was.

    Args:
        index: shape (k,): which knots.
        draws_ns: shape (DRAWS, k).
        energy_j: shape (k,).
    """

    index: npt.NDArray[np.int64]
    draws_ns: npt.NDArray[np.float64]
    energy_j: npt.NDArray[np.float64]

    @property
    def middle_ns(self) -> npt.NDArray[np.float64]:
        """The best guess of when each knot was."""
        middle: npt.NDArray[np.float64] = self.draws_ns.mean(axis=0)
        return middle


def place(
    knots: Knots, asked_ns: Sequence[float], random: np.random.Generator, *, quantum_j: float
) -> tuple[list[Placed], float | None]:
    """
    Draw the instants of the knots around each edge.

    Args:
        knots: one device's.
        asked_ns: the edges, in order of time.
        random: where the draws come from.
        quantum_j: the counter's step.

    Returns:
        One for each edge; and the period of the ticks in seconds, None if they
        are on no lattice.
    """
    near = [_around(knots, edge) for edge in asked_ns]
    if not knots.each:
        return [Placed(k, _uniform(knots, k, random), knots.energy_j[k]) for k in near], None
    if asked_ns[-1] - asked_ns[0] <= JOINT_LIMIT_NS:
        groups = [(near, asked_ns[0] - REACH_NS, asked_ns[-1] + REACH_NS)]
    else:
        groups = [
            ([k], edge - REACH_NS, edge + REACH_NS) for k, edge in zip(near, asked_ns, strict=True)
        ]
    placed: list[Placed] = []
    period_s: float | None = None
    for members, begin_ns, end_ns in groups:
        inside = np.flatnonzero((knots.low_ns >= begin_ns) & (knots.high_ns <= end_ns))
        wanted = np.unique(np.concatenate(members))
        inside = np.union1d(inside, wanted)
        fitted = lattice.fit(
            knots.low_ns[inside],
            knots.high_ns[inside],
            random,
            DRAWS,
            energy_j=knots.energy_j[inside],
            quantum_j=quantum_j,
        )
        if fitted is None:
            draws_ns = _uniform(knots, wanted, random)
        else:
            period_s = fitted.period_s
            draws_ns = fitted.draw_ns(
                random,
                np.searchsorted(inside, wanted),
                knots.low_ns[wanted],
                knots.high_ns[wanted],
            )
        for k in members:
            own = draws_ns[:, np.searchsorted(wanted, k)]
            placed.append(Placed(k, own, knots.energy_j[k]))
    return placed, period_s


def _around(knots: Knots, edge_ns: float) -> npt.NDArray[np.int64]:
    middle = int(np.searchsorted(knots.middle_ns, edge_ns))
    first = max(middle - _NEIGHBOURS, 0)
    return np.arange(first, min(middle + _NEIGHBOURS, len(knots.energy_j)))


def _uniform(
    knots: Knots, wanted: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    low, high = knots.low_ns[wanted], knots.high_ns[wanted]
    drawn: npt.NDArray[np.float64] = random.uniform(low, high, size=(DRAWS, len(wanted)))
    return drawn


def snap(all_placed: Sequence[tuple[Knots, Placed]], asked_ns: float, *, planned: bool) -> float:
    """
    Choose the common edge: a tick, of several devices' ticks the middle one.

    Args:
        all_placed: each device's knots around this edge.
        asked_ns: where the edge was asked for.
        planned: a burst was read from there on, so the tick after it is known best;
            otherwise the nearest tick is taken.
    """
    edges: list[float] = []
    for knots, placed in all_placed:
        ticks_ns = placed.middle_ns
        low_ns, high_ns = knots.low_ns[placed.index], knots.high_ns[placed.index]
        after = (high_ns >= asked_ns) & (low_ns <= asked_ns + _BURST_NS)
        if planned and np.any(after):
            # The first reading of a burst shows a tick that may be long past.
            width_ns = np.where(after, high_ns - low_ns, np.inf)
            edges.append(float(ticks_ns[int(np.argmax(width_ns < 1.5 * width_ns.min()))]))
        else:
            edges.append(float(ticks_ns[int(np.argmin(np.abs(ticks_ns - asked_ns)))]))
    return statistics.median_low(edges)


def energy_j(
    placed: Placed,
    edge_ns: float,
    near_w: npt.NDArray[np.float64],
    unseen: npt.NDArray[np.float64],
    bend: npt.NDArray[np.float64],
) -> tuple[float, npt.NDArray[np.float64]]:
    """
    What a device's cumulative energy was at an edge.

    Args:
        placed: its knots around the edge.
        edge_ns: the edge.
        near_w: its power readings around the edge; may be empty.
        unseen: shape (DRAWS,), -1 or 1: whether the power at the ticks is below or
            above what can be seen, see `_unseen_ratio`.
        bend: shape (DRAWS,), -1 to 1: where between its limits the energy inside a tick
            is; the same for devices that may work in step.

    Returns:
        The best guess and DRAWS draws of what it can have been, joules.
    """
    times_ns = np.maximum.accumulate(placed.draws_ns, axis=1)
    best = float(np.interp(edge_ns, placed.middle_ns, placed.energy_j))
    drawn = _interpolated(edge_ns, times_ns, placed.energy_j)
    middle_ns = placed.middle_ns
    right = int(np.clip(np.searchsorted(middle_ns, edge_ns), 1, len(middle_ns) - 1))
    span_s = max(float(middle_ns[right] - middle_ns[right - 1]) / 1e9, 1e-9)
    rise_j = float(placed.energy_j[right] - placed.energy_j[right - 1])
    slopes_w = np.diff(placed.energy_j) / np.maximum(np.diff(middle_ns), 1.0) * 1e9
    levels_w = np.concatenate((slopes_w, near_w))
    mean_w = rise_j / span_s
    low_w, high_w = _levels(levels_w, mean_w)
    # Inside a tick the energy need not rise in a straight line, but it ends where the
    # next tick says: the deviation is nil at both ends.
    left_ns, right_ns = times_ns[:, right - 1], times_ns[:, right]
    part = np.clip((edge_ns - left_ns) / np.maximum(right_ns - left_ns, 1.0), 0.0, 1.0)
    up_j = span_s * np.minimum(part * (high_w - mean_w), (1 - part) * (mean_w - low_w))
    down_j = span_s * np.minimum(part * (mean_w - low_w), (1 - part) * (high_w - mean_w))
    drawn = drawn + np.where(bend > 0, bend * up_j, bend * down_j)
    # A load in step with the ticks is at the same level at both edges: the caller
    # draws that level once.
    nearest = (
        right
        if abs(middle_ns[right] - edge_ns) < abs(middle_ns[right - 1] - edge_ns)
        else (right - 1)
    )
    if abs(middle_ns[nearest] - edge_ns) < 1.0:
        share = _unseen_ratio(near_w, mean_w)
        drawn = drawn + unseen * share * mean_w * (edge_ns - times_ns[:, nearest]) / 1e9
    return best, drawn


def _interpolated(
    edge_ns: float, times_ns: npt.NDArray[np.float64], energy_j: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What `numpy.interp` says of each row of instants."""
    rows = np.arange(len(times_ns))
    right = np.clip((times_ns < edge_ns).sum(axis=1), 1, len(energy_j) - 1)
    left_ns, right_ns = times_ns[rows, right - 1], times_ns[rows, right]
    part = np.clip((edge_ns - left_ns) / np.maximum(right_ns - left_ns, 1.0), 0.0, 1.0)
    drawn: npt.NDArray[np.float64] = energy_j[right - 1] + part * (
        energy_j[right] - energy_j[right - 1]
    )
    return drawn


def _levels(levels_w: npt.NDArray[np.float64], mean_w: float) -> tuple[float, float]:
    """
    Between which powers a device was inside a tick.

    Readings on one side of the mean alone show a load in step with them: what they
    never meet lies as far on the other side.
    """
    below_w = max(mean_w - float(levels_w.min()), 0.0)
    above_w = max(float(levels_w.max()) - mean_w, 0.0)
    least_w = _ONE_SIDED_RATIO * max(below_w, above_w)
    if below_w < least_w:
        below_w = above_w
    if above_w < least_w:
        above_w = below_w
    return max(mean_w - below_w, 0.0), mean_w + above_w


def _unseen_ratio(near_w: npt.NDArray[np.float64], mean_w: float) -> float:
    """
    By what share of its mean the power at a tick may be another without being seen.

    A load in step with the ticks looks constant to the counter. To a power sensor
    that looks at a part of each period it looks constant, too, but hardly ever at
    the mean; where both say the same, little is hidden.
    """
    least, most = _UNSEEN_RATIOS
    if not len(near_w) or mean_w <= 0:
        return most
    seen = float(np.max(np.abs(near_w - mean_w))) / mean_w
    return min(max(_SUSPICION * seen, least), most)
