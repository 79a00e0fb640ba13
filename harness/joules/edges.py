"""Moves a window's edges to counter ticks, and draws when the ticks around them were."""

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
) -> tuple[list[Placed], float]:
    """
    Draw the instants of the knots around each edge.

    Args:
        knots: one device's.
        asked_ns: the edges, in order of time.
        random: where the draws come from.
        quantum_j: the counter's step.

    Returns:
        One for each edge; and how irregular the ticks may be for all that the readings
        say, in nanoseconds; 0.0: that is in the draws already.
    """
    near = [_around(knots, edge) for edge in asked_ns]
    if not knots.each:
        return [Placed(k, _uniform(knots, k, random), knots.energy_j[k]) for k in near], 0.0
    if asked_ns[-1] - asked_ns[0] <= JOINT_LIMIT_NS:
        groups = [(near, asked_ns[0] - REACH_NS, asked_ns[-1] + REACH_NS)]
    else:
        groups = [
            ([k], edge - REACH_NS, edge + REACH_NS) for k, edge in zip(near, asked_ns, strict=True)
        ]
    placed: list[Placed] = []
    possible_ns = 0.0
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
            numbers=lattice.numbers(knots, inside),
        )
        if fitted is None:
            draws_ns = _uniform(knots, wanted, random)
        else:
            possible_ns = max(possible_ns, fitted.possible_ns)
            draws_ns = fitted.draw_ns(
                random,
                np.searchsorted(inside, wanted),
                knots.low_ns[wanted],
                knots.high_ns[wanted],
            )
        for k in members:
            own = draws_ns[:, np.searchsorted(wanted, k)]
            placed.append(Placed(k, own, knots.energy_j[k]))
    return placed, possible_ns


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
        if planned and knots.number is not None and np.any(later := ticks_ns >= asked_ns):
            # Not all ticks have narrow brackets, but the lattice knows when each was.
            edges.append(float(ticks_ns[int(np.argmax(later))]))
        elif planned and np.any(after):
            # The first reading of a burst shows a tick that may be long past.
            width_ns = np.where(after, high_ns - low_ns, np.inf)
            edges.append(float(ticks_ns[int(np.argmax(width_ns < 1.5 * width_ns.min()))]))
        else:
            edges.append(float(ticks_ns[int(np.argmin(np.abs(ticks_ns - asked_ns)))]))
    return statistics.median_low(edges)
