"""Finds the instants at which a device's cumulative energy is known: its counter's ticks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from .timeline import ReadStatus

if TYPE_CHECKING:
    import numpy.typing as npt

    from .timeline import PowerTrace

_REPEATS_OF_A_TICKING_COUNTER: Final = 0.1
"""
Share of readings equal to the one before them above which the counter is seen to
tick; below it, it moves as fast as it is read, and each reading is up to date.
"""


@dataclass(frozen=True, slots=True)
class Knots:
    """
    Instants at which the energy since the first of them is known.

    Args:
        t_ns: shape (n,), float64, strictly increasing; the best guess of each instant.
        slack_ns: shape (n,), float64; the true instant is no further away than this.
        energy_j: shape (n,), float64, never decreasing; joules since knot 0.
        ticks: the counter moves by steps that are seen; False: each reading is a knot.
        fault: why the knots end before the trace does; None: they do not.
        t_alive_ns: the last instant at which the counter was read without a fault.
    """

    t_ns: npt.NDArray[np.float64]
    slack_ns: npt.NDArray[np.float64]
    energy_j: npt.NDArray[np.float64]
    ticks: bool
    fault: str | None
    t_alive_ns: float


def stretches(trace: PowerTrace, *, stall_s: float = 1.0) -> list[Knots]:
    """
    Cut an energy counter's readings where it cannot be trusted, and find the knots of each part.

    A part ends where the counter goes back (reset), where the device stops
    answering (lost) and where the counter stands still (stall). A decrease of a
    counter that is known to wrap, by what a wrap gives, is no fault.

    Args:
        trace: an energy channel.
        stall_s: standing still for longer than this is a fault; no device draws nothing.

    Returns:
        Parts with at least two knots, in order of time.
    """
    ok = trace.status == ReadStatus.OK
    if np.count_nonzero(ok) < 2:  # noqa: PLR2004
        return []
    before_ns, after_ns = trace.t_before_ns[ok], trace.t_after_ns[ok]
    value = trace.value[ok]
    steps = np.diff(value)
    if trace.channel.wraps_at is not None:
        # A counter just reset is near 0, but so is one just wrapped: only a step that
        # is small against the range can be a wrap.
        wrapped = (steps < 0) & (steps + trace.channel.wraps_at < trace.channel.wraps_at / 2)
        steps = np.where(wrapped, steps + trace.channel.wraps_at, steps)
    # A faulty reading between two good ones is a cut, too.
    index = np.flatnonzero(ok)
    lost = np.diff(index) > 1
    stalls = _stalls(before_ns, steps, stall_s)
    parts: list[Knots] = []
    begin = 0
    for cut in [*np.flatnonzero((steps < 0) | lost | stalls), len(value) - 1]:
        fault = None
        if cut < len(steps):
            fault = "reset" if steps[cut] < 0 else "lost" if lost[cut] else "stall"
        elif index[-1] < len(ok) - 1:
            fault = "lost"
        if cut > begin:
            part = slice(begin, cut + 1)
            energy_j = np.concatenate(([0.0], np.cumsum(steps[begin:cut])))
            knots = _knots(before_ns[part], after_ns[part], energy_j, fault)
            if len(knots.t_ns) > 1:
                parts.append(knots)
        begin = cut + 1
    return parts


def _stalls(
    before_ns: npt.NDArray[np.int64], steps: npt.NDArray[np.float64], stall_s: float
) -> npt.NDArray[np.bool_]:
    """True for each step that lies within a stretch of standing still that is too long."""
    still = np.zeros(len(steps), dtype=np.bool_)
    moves = np.flatnonzero(steps != 0)
    edges = [0, *(moves + 1), len(steps)]
    for first, last in itertools.pairwise(edges):
        until = min(last, len(before_ns) - 1)
        if before_ns[until] - before_ns[first] > stall_s * 1e9:
            still[first:until] = True
    return still


def _knots(
    before_ns: npt.NDArray[np.int64],
    after_ns: npt.NDArray[np.int64],
    energy_j: npt.NDArray[np.float64],
    fault: str | None,
) -> Knots:
    moved = np.flatnonzero(np.diff(energy_j) > 0) + 1
    ticks = len(moved) < (1 - _REPEATS_OF_A_TICKING_COUNTER) * (len(energy_j) - 1)
    if ticks:
        # The tick fell between the call that last gave the old value and the one
        # that first gave the new one.
        low_ns, high_ns = before_ns[moved - 1], after_ns[moved]
        energy_j = energy_j[moved]
    else:
        low_ns, high_ns = before_ns, after_ns
    # Two readings close together may bracket two ticks with overlapping brackets.
    t_ns = np.maximum.accumulate((low_ns + high_ns) / 2)
    keep = np.concatenate(([True], np.diff(t_ns) > 0)) if len(t_ns) else np.empty(0, dtype=bool)
    return Knots(
        t_ns=t_ns[keep],
        slack_ns=((high_ns - low_ns) / 2)[keep],
        energy_j=energy_j[keep],
        ticks=ticks,
        fault=fault,
        t_alive_ns=float(after_ns[-1]),
    )
