"""Reads an energy counter's history: where it moved, and where it cannot be trusted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from harness.ticking import SLOW_READ_S
from harness.timeline import ReadStatus

from . import following

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.timeline import PowerTrace

STALL_S: Final = 1.0
"""Standing still for longer is a fault, unless the counter always ticks that slowly."""
_STALL_TICKS: Final = 5
_DENSE_NS: Final = 5_000_000
"""Readings closer together than this are a burst, in which single ticks can be told apart."""
_DENSE_INTERVALS: Final = 2

Fault = Literal["reset", "lost", "stall"]


@dataclass(frozen=True, slots=True)
class Knots:
    """
    Instants at which the energy since the first of them is known.

    Each is a tick that lies somewhere in its bracket: between the call that last gave
    the old value and the one that first gave the new one, and no longer before the
    latter than the counter takes between two ticks.

    Args:
        low_ns: shape (n,), float64, never decreasing: start of each bracket.
        high_ns: shape (n,), float64, never decreasing: its end.
        energy_j: shape (n,), float64, strictly increasing; joules since knot 0.
        each: every tick between the first knot and the last was seen, or nearly
            every one; False: the counter ticks faster than it is read.
        fault: why the knots end before the trace does; None: they do not.
        t_first_ns: start of the first good reading of this stretch.
        t_last_ns: end of its last good reading.
        longest_gap_s: the longest time between two readings of this stretch.
        low_took_ns: shape (n,): how long the reading took that each bracket starts with; None:
            reads are quick, and the time within one does not matter.
        high_took_ns: shape (n,): the same of the one that it ends with.
        followed: shape (n,): which tick each knot is, ticks that were not read counted, too, as
            `following.followed` has it; None: its reads are quick, or never showed ticks one by
            one.
        number: the same of knots of which `following.accepted` has found that one lattice goes
            through them; None: not numbered.
    """

    low_ns: npt.NDArray[np.float64]
    high_ns: npt.NDArray[np.float64]
    energy_j: npt.NDArray[np.float64]
    each: bool
    fault: Fault | None
    t_first_ns: float
    t_last_ns: float
    longest_gap_s: float
    low_took_ns: npt.NDArray[np.float64] | None = None
    high_took_ns: npt.NDArray[np.float64] | None = None
    followed: npt.NDArray[np.int64] | None = None
    number: npt.NDArray[np.int64] | None = None

    @property
    def middle_ns(self) -> npt.NDArray[np.float64]:
        """The middle of each bracket."""
        return (self.low_ns + self.high_ns) / 2


def stretches(trace: PowerTrace, *, stall_s: float = STALL_S) -> list[Knots]:
    """
    Cut a counter's readings where it cannot be trusted, and find the knots of each part.

    A part ends where the counter goes back (reset), where the device stops
    answering (lost) and where the counter stands still (stall). A step back of a
    counter that is known to wrap, by what a wrap gives, is no fault.

    Args:
        trace: an energy channel.
        stall_s: standing still for longer than this is a fault.

    Returns:
        Parts with at least two knots, in order of time.
    """
    index = np.flatnonzero(trace.status == ReadStatus.OK)
    if len(index) < 2:  # noqa: PLR2004  a difference needs two readings
        return []
    before_ns, after_ns = trace.t_before_ns[index], trace.t_after_ns[index]
    steps = np.diff(trace.value[index])
    wraps_at = trace.channel.wraps_at
    if wraps_at is not None:
        # A counter just reset is near 0, but so is one just wrapped: only a step
        # that is small against the range can be a wrap.
        steps = np.where((steps < 0) & (steps < -wraps_at / 2), steps + wraps_at, steps)
    lost = np.diff(index) > 1
    stalls = _stalls(before_ns, steps, stall_s)
    parts: list[Knots] = []
    begin = 0
    for cut in [*np.flatnonzero((steps < 0) | lost | stalls), len(index) - 1]:
        fault: Fault | None = None
        if cut < len(steps):
            fault = "reset" if steps[cut] < 0 else "lost" if lost[cut] else "stall"
        elif index[-1] < len(trace.status) - 1:
            fault = "lost"
        if cut > begin:
            part = slice(begin, cut + 1)
            energy_j = np.concatenate(([0.0], np.cumsum(steps[begin:cut])))
            knots = _knots(before_ns[part], after_ns[part], energy_j, fault)
            if len(knots.energy_j) > 1:
                parts.append(knots)
        begin = cut + 1
    return parts


def _stalls(
    before_ns: npt.NDArray[np.int64], steps: npt.NDArray[np.float64], stall_s: float
) -> npt.NDArray[np.bool_]:
    """True for each step that lies within a stretch of standing still that is too long."""
    still = np.zeros(len(steps), dtype=np.bool_)
    moves = np.flatnonzero(steps != 0)
    if len(moves) > 1:
        usual_ns = float(np.median(np.diff(before_ns[moves + 1])))
        stall_s = max(stall_s, _STALL_TICKS * usual_ns / 1e9)
    for first, last in itertools.pairwise([0, *(moves + 1), len(steps)]):
        # From the reading that first showed the value to the last that still did.
        until = min(last, len(before_ns) - 1)
        until = until - 1 if last < len(steps) or (len(moves) and moves[-1] == last - 1) else until
        if until > first and before_ns[until] - before_ns[first] > stall_s * 1e9:
            still[first:until] = True
    return still


def _knots(
    before_ns: npt.NDArray[np.int64],
    after_ns: npt.NDArray[np.int64],
    energy_j: npt.NDArray[np.float64],
    fault: Fault | None,
) -> Knots:
    moved = np.flatnonzero(np.diff(energy_j) > 0) + 1
    tick_ns = _dense_tick_ns(before_ns, moved)
    low_ns = before_ns[moved - 1].astype(np.float64)
    each = True
    if tick_ns is not None:
        low_ns = np.maximum(low_ns, before_ns[moved] - tick_ns)
        gaps_ns = np.diff(before_ns)
        apart_ns = gaps_ns[gaps_ns > _DENSE_NS]
        each = len(apart_ns) == 0 or tick_ns > float(np.median(apart_ns))
    followed = low_took_ns = high_took_ns = None
    took_ns = (after_ns - before_ns).astype(np.float64)
    if float(np.median(took_ns)) > SLOW_READ_S * 1e9:
        followed = following.followed(before_ns, after_ns, moved)
        low_took_ns, high_took_ns = took_ns[moved - 1], took_ns[moved]
    return Knots(
        low_ns=low_ns,
        high_ns=after_ns[moved].astype(np.float64),
        energy_j=energy_j[moved],
        each=each,
        fault=fault,
        t_first_ns=float(before_ns[0]),
        t_last_ns=float(after_ns[-1]),
        longest_gap_s=float(np.diff(before_ns).max()) / 1e9,
        low_took_ns=low_took_ns,
        high_took_ns=high_took_ns,
        followed=followed,
    )


def _dense_tick_ns(before_ns: npt.NDArray[np.int64], moved: npt.NDArray[np.int64]) -> float | None:
    """The time between ticks as seen in bursts; None: no burst saw three of them."""
    sparse = np.concatenate(([True], np.diff(before_ns) > _DENSE_NS))
    burst = np.cumsum(sparse)[moved]
    # The first reading of a burst shows a tick that was before it.
    inside = ~sparse[moved]
    same = inside[1:] & inside[:-1] & (np.diff(burst) == 0)
    intervals_ns = np.diff(before_ns[moved])[same]
    if len(intervals_ns) < _DENSE_INTERVALS:
        return None
    return float(np.quantile(intervals_ns, 0.9))
