"""
What readings say of the sensor that gave them: ticks, delays, slopes, sums that must hold.

Pure functions over recorded traces, so that they are tested on synthetic sensors with known
properties, and so that a recording made on a GPU machine is analysed again anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from harness.joules import lattice
from harness.timeline import PowerTrace, ReadStatus

Floats = npt.NDArray[np.float64]
_FEWEST_TICKS = 5
_FEWEST_A_SIDE = 3
_LATEST_S = 0.3
_TAIL_RATIO = 0.3
"""Share of a step's length, at its end, over which its level is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """
    When a reading changed: each time somewhere in a bracket.

    Args:
        low_ns: shape (n,): start of the last call that still gave the old value.
        high_ns: shape (n,): end of the first call that gave the new one.
        value: shape (n,): the new value.
    """

    low_ns: Floats
    high_ns: Floats
    value: Floats

    @property
    def middle_ns(self) -> Floats:
        """The middle of each bracket."""
        middle: Floats = (self.low_ns + self.high_ns) / 2
        return middle


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """
    How regularly a reading is renewed.

    Args:
        changes: how many were seen.
        readings: how many readings showed them.
        period_ms: slope of the instants over their numbers.
        interval_ms: minimum, 1st, 50th and 99th percentile, and maximum between two changes.
        skipped: ticks of the lattice at which no change was seen (an equal value, or none).
        resolution_ms: median width of a bracket: nothing finer can be seen.
        off_lattice_ms: standard deviation of the instants from a regular lattice.
        jitter_ms: the part of it that the brackets' widths do not explain; None: all of it is
            explained, the ticks may be regular.
    """

    changes: int
    readings: int
    period_ms: float
    interval_ms: tuple[float, float, float, float, float]
    skipped: int
    resolution_ms: float
    off_lattice_ms: float
    jitter_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    A change of the load, by the clock of the process that made it.

    Args:
        t_ns: when.
        rising: to the higher level.
        held_before_s: how long the level before it had been held.
        held_after_s: how long the level after it was held.
    """

    t_ns: int
    rising: bool
    held_before_s: float
    held_after_s: float


def good(trace: PowerTrace) -> tuple[Floats, Floats, Floats]:
    """Start, end and value of the readings that have one."""
    ok = trace.status == ReadStatus.OK
    return (
        trace.t_before_ns[ok].astype(np.float64),
        trace.t_after_ns[ok].astype(np.float64),
        trace.value[ok],
    )


def changes(trace: PowerTrace) -> Changes:
    """The brackets of all changes of *trace*'s value."""
    before, after, value = good(trace)
    moved = np.flatnonzero(np.diff(value) != 0) + 1
    return Changes(low_ns=before[moved - 1], high_ns=after[moved], value=value[moved])


def ticks(trace: PowerTrace) -> Ticks | None:
    """
    Period, distribution and jitter of a reading's ticks; None with fewer than five changes.

    A change inside a bracket of width w is uniform in it, so instants off a regular lattice by
    a standard deviation of w / sqrt(12) say nothing against its regularity.
    """
    found = changes(trace)
    if len(found.value) < _FEWEST_TICKS:
        return None
    middle_ms = (found.middle_ns - found.middle_ns[0]) / 1e6
    intervals = np.diff(middle_ms)
    # A longer step holds several ticks; the shortest usual step is one.
    unit = float(np.median(intervals))
    number = np.concatenate(([0], np.cumsum(np.maximum(np.rint(intervals / unit), 1))))
    period, start = np.polyfit(number, middle_ms, 1)
    off_ms = float(np.std(middle_ms - (start + period * number)))
    widths_ms = (found.high_ns - found.low_ns) / 1e6
    explained = float(np.mean(widths_ms**2)) / 12
    return Ticks(
        changes=len(found.value),
        readings=len(good(trace)[2]),
        period_ms=float(period),
        interval_ms=(
            float(intervals.min()),
            float(np.percentile(intervals, 1)),
            unit,
            float(np.percentile(intervals, 99)),
            float(intervals.max()),
        ),
        skipped=int(number[-1]) - (len(number) - 1),
        resolution_ms=float(np.median(widths_ms)),
        off_lattice_ms=off_ms,
        jitter_ms=float(np.sqrt(off_ms**2 - explained)) if off_ms**2 > explained else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regular:
    """
    The one regular lattice that is farthest from the ends of all brackets.

    Args:
        period_ms: of it.
        room_ms: to the nearest end of a bracket; negative: no lattice lies in all of them.
        instant_ns: shape (n,): the tick of each change.
    """

    period_ms: float
    room_ms: float
    instant_ns: Floats


def regular(found: Changes) -> Regular | None:
    """
    Whether all changes may be ticks of one clock; None: they cannot be numbered.

    Brackets' ends are where calls were slow; the lattice in the middle of what is left is the
    best guess of the ticks.
    """
    random = np.random.default_rng(0)
    fitted = lattice.fit(found.low_ns, found.high_ns, random, 1, energy_j=found.value)
    if fitted is None:
        return None
    number = fitted.number - fitted.number[0]
    ones = np.ones(len(number))
    rows = np.column_stack((np.r_[ones, -ones], np.r_[number, -number], np.r_[ones, ones]))
    origin_ns = float(found.low_ns[0])
    limits_ms = np.r_[found.high_ns - origin_ns, origin_ns - found.low_ns] / 1e6
    done = optimize.linprog([0, 0, -1], A_ub=rows, b_ub=limits_ms, bounds=[(None, None)] * 3)
    if not done.success:
        return None
    start_ms, period_ms, room_ms = done.x
    return Regular(
        period_ms=float(period_ms),
        room_ms=float(room_ms),
        instant_ns=origin_ns + (start_ms + period_ms * number) * 1e6,
    )


def counter_delays_s(
    trace: PowerTrace, steps: Sequence[Step], *, latest_s: float = _LATEST_S
) -> list[float]:
    """
    How late an energy counter shows each step of the load.

    The tick interval that the step falls into has the old power for a part of it and the new one
    for the rest: its joules, and the powers of the intervals beside it, say how much. Only these
    three are used: a card holds a power for a few tenths of a second before it governs itself.

    Args:
        trace: an energy channel.
        steps: of the load.
        latest_s: a step is looked for up to so much later.

    Returns:
        Seconds, one for each step that has ticks around it.
    """
    found = changes(trace)
    if len(found.value) < _FEWEST_TICKS:
        return []
    on_lattice = regular(found)
    t_s = (found.middle_ns if on_lattice is None else on_lattice.instant_ns) / 1e9
    watts = np.diff(found.value) / np.diff(t_s)
    delays = []
    for step in steps:
        at = step.t_ns / 1e9
        # Interval k is from tick k to tick k + 1.
        near = np.flatnonzero((t_s[1:] > at) & (t_s[:-1] < at + latest_s))
        near = near[(near > 0) & (near < len(watts) - 1)]
        if not len(near):
            continue
        height = watts[near + 1] - watts[near - 1]
        k = int(near[int(np.argmax(height if step.rising else -height))])
        old, new = watts[k - 1], watts[k + 1]
        if old == new:
            continue
        share_of_new = (watts[k] - old) / (new - old)
        delays.append(float(t_s[k + 1] - share_of_new * (t_s[k + 1] - t_s[k]) - at))
    return delays


def power_delays_s(trace: PowerTrace, steps: Sequence[Step]) -> list[float]:
    """
    How late a power reading follows each step of the load, on average over its rise or fall.

    The area between the step and the reading, over the step's height: 0.5 s for a mean over
    one second, half a window plus half an update for a sampled one.

    Args:
        trace: a power channel.
        steps: of the load; each level is held until the reading has settled.

    Returns:
        Seconds, one for each step.
    """
    before_ns, after_ns, value = good(trace)
    t_s = (before_ns + after_ns) / 2e9
    delays = []
    for step in steps:
        at, end = step.t_ns / 1e9, step.t_ns / 1e9 + step.held_after_s
        old = (t_s > at - _TAIL_RATIO * step.held_before_s) & (t_s <= at)
        new = (t_s > end - _TAIL_RATIO * step.held_after_s) & (t_s <= end)
        if min(np.count_nonzero(old), np.count_nonzero(new)) < _FEWEST_A_SIDE:
            continue
        low, high = float(np.mean(value[old])), float(np.mean(value[new]))
        if low == high:
            continue
        inside = np.flatnonzero((t_s > at) & (t_s <= end))
        # A reading holds from when it was made until the next: a staircase.
        edges = np.concatenate((t_s[inside], [end]))
        share = (value[inside] - low) / (high - low)
        missing = float(np.sum((1 - share) * np.diff(edges)))
        delays.append(missing + float(t_s[inside][0] - at))
    return delays


def slope_w(trace: PowerTrace, start_ns: float, end_ns: float) -> float | None:
    """Watts of a counter from its first to its last tick in [start_ns, end_ns]; None: too few."""
    found = changes(trace)
    inside = (found.low_ns >= start_ns) & (found.high_ns <= end_ns)
    t_ns, value = found.middle_ns[inside], found.value[inside]
    if len(t_ns) < 2 or t_ns[-1] <= t_ns[0]:
        return None
    return float((value[-1] - value[0]) / (t_ns[-1] - t_ns[0]) * 1e9)


def mean_w(trace: PowerTrace, start_ns: float, end_ns: float) -> float | None:
    """Mean of a power channel's readings in [start_ns, end_ns], each for as long as it held."""
    before_ns, after_ns, value = good(trace)
    t_ns = (before_ns + after_ns) / 2
    inside = np.flatnonzero((t_ns >= start_ns) & (t_ns <= end_ns))
    if len(inside) < 2:
        return None
    spans = np.diff(t_ns[inside])
    return float(np.sum(value[inside][:-1] * spans) / np.sum(spans))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conservation:
    """
    Whether the parts of a stretch of time add up to the whole.

    Args:
        whole_j: of the whole stretch.
        parts_j: of its parts, each metered by itself.
        between_j: of the slivers between edges that were moved apart or over each other, at the
            mean power of the parts beside them; negative where parts overlap.
        residual_ratio: (parts + between - whole) / whole.
    """

    whole_j: float
    parts_j: tuple[float, ...]
    between_j: float
    residual_ratio: float


def conserved(
    whole: tuple[float, float, float], parts: Sequence[tuple[float, float, float]]
) -> Conservation:
    """
    Compare a stretch with its parts.

    Each edge is moved to a tick when a window is metered, so neighbours may end up a tick apart;
    that sliver is counted at the power beside it and shown by itself.

    Args:
        whole: start and end in seconds, joules.
        parts: the same of each part, in order of time.

    Raises:
        ValueError: no part, or a whole without energy.
    """
    if not parts or whole[2] <= 0:
        msg = f"nothing to compare: {len(parts)} parts, {whole[2]} J"
        raise ValueError(msg)
    watts = [joules / (end - start) for start, end, joules in parts]
    between = (parts[0][0] - whole[0]) * watts[0] + (whole[1] - parts[-1][1]) * watts[-1]
    for (left, before), (right, after) in zip(
        zip(parts[:-1], watts[:-1], strict=True),
        zip(parts[1:], watts[1:], strict=True),
        strict=True,
    ):
        between += (right[0] - left[1]) * (before + after) / 2
    joules = tuple(part[2] for part in parts)
    return Conservation(
        whole_j=whole[2],
        parts_j=joules,
        between_j=between,
        residual_ratio=(sum(joules) + between - whole[2]) / whole[2],
    )
