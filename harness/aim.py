"""Aims the reads of slow counters at the ticks that are expected, as long as they come."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from . import ticking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ticking import Ticking

GOLDEN: Final = 0.6180339887498949
SLACK_NS: Final = 200_000.0
"""Ticks off the lattice by more end the aiming; the H100's leave ten times as much to spare."""
_SEEN: Final = 3
"""Successive ticks to begin with."""
_SEEK_NS: Final = 1_000_000_000
_SEEK_PAUSES: Final = 1.0
_PAUSE_NS: Final = 1_000_000
_BURST_NS: Final = 150_000_000
_BACK_OFF_NS: Final = 10_000_000_000
_BACK_OFF_LIMIT_NS: Final = 600_000_000_000
_MARGIN_NS: Final = 300_000
_NARROW_READS: Final = 2.0
"""Ticks are known well where they are known to so many times the duration of a read."""
_LOST_RATIO: Final = 0.7
"""Ticks that can be anywhere in a period cannot be counted."""
_WIDE_READS: Final = 4.0
_SENTINELS: Final = 6
"""One in so many reads around ticks is over before the tick can be, and one begins after it."""
_PATIENCE: Final = 12
"""After so many reads around ticks they become fewer all the same."""
_LEARNED: Final = 32
_FAR_TICKS: Final = (4, 16)
"""Once they are, one of so many is read around: the fewest where reads are few, as the budget has it."""
_TAKEN: Final = 64
_FEW: Final = 16
_EARLY_RATIO: Final = 0.8
_LEAD: Final = 0.22
_USED_RATIO: Final = 0.75
_ANNOUNCED_LEAD: Final = 0.8
_ROUNDED: Final = 0.05
_LATE_NS: Final = 1_000_000
_HOLD_NS: Final = 500_000_000
"""After a read around a tick has made power late by more, there is none for so long."""
_TURNS: Final = 8
_ANNOUNCED: Final = 3
"""Ticks read one by one for an announced edge: that before it, and two after it."""


@dataclass(slots=True)
class Durations:
    """How long the latest reads of a counter took, nanoseconds."""

    usual_ns: float = 0.0
    mean_ns: float = 0.0
    long_ns: float = 0.0
    """One in ten takes longer."""
    count: int = 0
    _latest_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_TAKEN))

    def add(self, took_ns: int) -> None:
        """Take one more into account, at once at first and later now and then."""
        self._latest_ns.append(took_ns)
        self.count += 1
        if self.count > _FEW and self.count % _FEW:
            return
        ordered = sorted(self._latest_ns)
        self.usual_ns = ordered[len(ordered) // 2]
        self.mean_ns = sum(ordered) / len(ordered)
        self.long_ns = ordered[9 * len(ordered) // 10]


@dataclass(slots=True)
class Aim:
    """
    One counter: what is known of its ticks, and when it is to be read next.

    It is sought (read back to back) until three ticks were seen. Then it is aimed at: one read
    just after each wanted tick, which shows that tick and no other, and now and then one around
    the tick, which keeps the phase. As soon as a reading contradicts the lattice, it is read at
    dithered times like any counter, and sought again later.

    Args:
        grid_ns: period of the dithered reads.
        begun_ns: when these began.
    """

    grid_ns: int
    begun_ns: int
    ticks: Ticking | None = None
    wanted: int = 0
    """The tick to read next."""
    open_ns: int = 0
    """When the next read may start."""
    close_ns: float = math.inf
    """After that it would tell nothing."""
    earliest_ns: float = math.inf
    """Before that, a read around the tick would tell nothing."""
    around: bool = False
    """The next read is one around the tick, which is worth being late with power for."""
    lead_ns: float = 0.0
    """How long before the next tick one is read."""
    far: int = _FAR_TICKS[0]
    """One of how many ticks is read around, once they are known well."""
    learning: bool = False
    """The lattice is not yet known as well as it will be."""
    hold_until_ns: int = 0
    """No reads around ticks until then."""
    owed: int = 0
    """Ticks still to be read one by one, for an announced edge."""
    seeking: bool = False
    seek_at_ns: int = 0
    """From when it may be sought."""
    aimed_ns: int = 0
    losses: int = 0
    missed: int = 0
    late: Durations = field(default_factory=Durations)
    """Of reads late in a tick."""
    near: Durations = field(default_factory=Durations)
    """Of all others: a driver that is busy with a tick may let its reader wait."""
    _value: float = math.nan
    _last_ns: int = 0
    _fresh: bool = False
    _brackets: list[tuple[float, float]] = field(default_factory=list)
    _back_off_ns: int = _BACK_OFF_NS
    _burst_until_ns: int = 0
    _sought_ns: int = 0
    _number: int = 0
    _dither: int = 0
    _around_tick: int = 0
    _around_every: int = 1
    _tried: int = 0
    _begun_at: int = 0
    _aimed_from_ns: int = 0

    def took(self, before_ns: int, after_ns: int, value: float) -> None:
        """Take a reading into account; NaN: there was none."""
        changed = value != self._value
        aimed_late = self.ticks is not None and not self.around and not self.owed
        (self.late if aimed_late else self.near).add(after_ns - before_ns)
        if self.ticks is not None:
            if math.isnan(value) or not self.ticks.follow(before_ns, after_ns, changed=changed):
                self._lose(after_ns)
            elif self.around:
                self._around_done()
        elif self.seeking:
            self._seek(before_ns, after_ns, value, changed=changed)
        if changed or after_ns > self._burst_until_ns:
            self._burst_until_ns = 0
        self._value, self._last_ns, self._fresh = value, before_ns, changed

    def announce(self, now_ns: int) -> None:
        """An edge has been announced: read every tick around it."""
        if self.ticks is None:
            self._burst_until_ns = now_ns + _BURST_NS
            return
        least, _ = self.ticks.shown(now_ns, now_ns)
        self.owed = _ANNOUNCED
        self.wanted = least
        if self.ticks.at is not None and self.ticks.at >= least:
            self.owed, self.wanted = _ANNOUNCED - 1, self.ticks.at + 1
        self._around_tick = min(self._around_tick, least + 1)

    @property
    def reads(self) -> Durations:
        """Those late in a tick, once there are some."""
        return self.late if self.late.count >= _SEEN else self.near

    @property
    def busy(self) -> bool:
        """An announced edge still waits for its ticks."""
        return self.owed > 0 or self._burst_until_ns > 0

    def plan(self, now_ns: int, next_tick_after: int | None = None) -> bool:
        """
        Say when the next read may start.

        Args:
            now_ns: what is too late is given up.
            next_tick_after: the tick wanted after the one that has just been read.

        Returns:
            Whether the wanted tick has been read, or cannot be any more: which one is next?
        """
        self.around, self.close_ns = False, math.inf
        if self._burst_until_ns or self.seeking:
            # Whoever is sought has time: what counts is that each tick is seen.
            pause_ns = 0 if self._burst_until_ns else round(_SEEK_PAUSES * self.reads.usual_ns)
            self.open_ns = max(self._last_ns + _PAUSE_NS, now_ns + pause_ns)
            return False
        if self.ticks is None:
            self.open_ns = self._dithered_ns(now_ns)
            return False
        if next_tick_after is not None:
            self.wanted = next_tick_after
        if self.ticks.at is not None and self.ticks.at >= self.wanted:
            return True
        low_ns, high_ns = self.ticks.span_ns(self.wanted)
        if high_ns - low_ns > _LOST_RATIO * self.ticks.period_ns:
            self._lose(now_ns)
            return self.plan(now_ns)
        usual_ns = self.reads.usual_ns
        if self.wanted >= self._around_tick and (now_ns >= self.hold_until_ns or self.learning):
            start_ns = self._around_ns(low_ns, high_ns, usual_ns)
            if now_ns <= high_ns + 2 * _MARGIN_NS:
                self.open_ns, self.close_ns, self.around = round(start_ns), high_ns + 2 * _MARGIN_NS, True
                self.earliest_ns = low_ns
                return False
            self._around_tick = self.wanted + self._around_every
        # Late in the tick: the driver is no longer busy with it, and that the next one has not
        # come yet is worth knowing.
        next_ns = self.ticks.span_ns(self.wanted + 1)[0]
        self.close_ns = next_ns - usual_ns - _MARGIN_NS
        lead_ns = self.lead_ns if not self.owed else _ANNOUNCED_LEAD * self.ticks.period_ns
        self.open_ns = round(max(high_ns + _MARGIN_NS, next_ns - lead_ns))
        return max(now_ns, self.open_ns) > self.close_ns

    def next_tick(self, now_ns: int) -> int:
        """The tick after the wanted one, or the first that is not over."""
        if self.ticks is None:
            return 0
        return max(self.wanted + 1, self.ticks.shown(now_ns, now_ns)[0])

    def _around_ns(self, low_ns: float, high_ns: float, usual_ns: float) -> float:
        turn = self._dither % _SENTINELS
        narrow = high_ns - low_ns < _NARROW_READS * usual_ns
        if turn == _SENTINELS - 1 and narrow:
            # After every instant that the tick can have: is there one that comes too late?
            return high_ns + _MARGIN_NS
        if turn == _SENTINELS // 2 - 1 and narrow:
            return low_ns - usual_ns - _MARGIN_NS
        # Begun much before the tick or after it, it would tell less; and a driver that is busy
        # with a tick lets readers wait.
        aside = (self._dither * GOLDEN) % 1.0 - 0.5
        return (low_ns + high_ns - usual_ns) / 2 + aside * (high_ns - low_ns) / 2

    def _around_done(self) -> None:
        ticks = self.ticks
        if ticks is None:
            return
        self._dither += 1
        usual_ns, every = self.reads.usual_ns, self._around_every
        now_ns, twice_ns = (
            high_ns - low_ns
            for low_ns, high_ns in (ticks.span_ns(self.wanted + k * every) for k in (1, 2))
        )
        self._tried += 1
        if twice_ns < _NARROW_READS * usual_ns or self._tried > _PATIENCE:
            every *= 2
            self._tried = 0
        elif now_ns > _WIDE_READS * usual_ns:
            every //= 2
        self._around_every = max(min(every, self.far), 1)
        if self.learning:
            self._around_every = 1
            self.learning = self._dither - self._begun_at < _LEARNED
        self._around_tick = self.wanted + self._around_every

    def seek(self, now_ns: int) -> None:
        """Begin to look for ticks."""
        self.seeking, self._sought_ns, self._brackets = True, now_ns, []
        self._value = math.nan

    def _seek(self, before_ns: int, after_ns: int, value: float, *, changed: bool) -> None:
        if changed and not math.isnan(self._value):
            # Two changes in a row can be of any number of ticks.
            if self._fresh:
                self._brackets.clear()
            self._brackets.append((self._last_ns, after_ns))
        if math.isnan(value) or after_ns - self._sought_ns > _SEEK_NS:
            self._lose(after_ns)
        elif len(self._brackets) == _SEEN:
            self.ticks = ticking.begin(self._brackets, slack_ns=SLACK_NS)
            if self.ticks is None:
                self._lose(after_ns)
                return
            self.seeking, self._aimed_from_ns = False, after_ns
            self._around_every, self._around_tick = 1, _SEEN
            self.learning, self._begun_at = True, self._dither
            self.wanted = _SEEN

    def _lose(self, now_ns: int) -> None:
        if self.ticks is not None:
            self.aimed_ns += now_ns - self._aimed_from_ns
            if now_ns - self._aimed_from_ns > 2 * self._back_off_ns:
                self._back_off_ns = _BACK_OFF_NS
        self.losses += 1
        if self.owed:
            self._burst_until_ns = now_ns + _BURST_NS
        self.ticks, self.owed, self.seeking, self._brackets = None, 0, False, []
        self.seek_at_ns = now_ns + self._back_off_ns
        self._number = (now_ns - self.begun_ns) // self.grid_ns
        self._back_off_ns = min(2 * self._back_off_ns, _BACK_OFF_LIMIT_NS)

    def facts(self, now_ns: int, every: int) -> dict[str, float | None]:
        """What the sampler's audit says of it, at the end."""
        lasted_s = (now_ns - self.begun_ns) / 1e9
        return {
            "aimed_ratio": self.aimed_s(now_ns) / lasted_s if lasted_s > 0 else None,
            "period_ms": None if self.ticks is None else self.ticks.period_ns / 1e6,
            "one_tick_in": None if self.ticks is None else every,
            "given_up": self.losses,
        }

    def aimed_s(self, now_ns: int) -> float:
        """For how long reads were aimed so far."""
        open_ns = now_ns - self._aimed_from_ns if self.ticks is not None else 0
        return (self.aimed_ns + open_ns) / 1e9

    def _dithered_ns(self, now_ns: int) -> int:
        """The next dithered time that has not been read at; those long over are left out."""
        while (due_ns := self._grid_time_ns()) <= self._last_ns:
            self._number += 1
        late = (now_ns - due_ns) // self.grid_ns
        if late > 0:
            self.missed += late
            self._number += late
            due_ns = self._grid_time_ns()
        return due_ns

    def _grid_time_ns(self) -> int:
        return self.begun_ns + round((self._number + (self._number * GOLDEN) % 1.0) * self.grid_ns)


@dataclass(slots=True)
class Aims:
    """
    All slow counters, read one at a time so that power never waits for a whole round of them.

    Where all ticks would take too long, all counters leave out the same: those read are
    one after another, so that a common edge lies close to a tick of each.

    Args:
        all_aims: one a counter.
        most_hz: no more ticks a second.
        busy_ratio: share of the time that reading may take.
    """

    all_aims: list[Aim]
    most_hz: float
    busy_ratio: float
    next_ns: int = 0
    """When the next read may start."""
    _until_ns: float = math.inf
    _step_ns: float = math.inf

    def every(self) -> int:
        """One of how many ticks is read; and so often as the rest of the budget has it, around one."""
        periods_ns = [aim.ticks.period_ns for aim in self.all_aims if aim.ticks is not None]
        if not periods_ns:
            return 1
        period_ns = statistics.median(periods_ns)
        late, near = (
            sum(each.mean_ns for each in durations) / period_ns
            for durations in (
                [aim.reads for aim in self.all_aims],
                [aim.near for aim in self.all_aims],
            )
        )
        few, many = _FAR_TICKS
        least = max(
            late / max(self.busy_ratio - near / many, 0.01), 1e9 / self.most_hz / period_ns
        )
        # A twentieth more than the budget is not worth leaving out every second tick.
        every = max(math.ceil(least - _ROUNDED), 1)
        left = _USED_RATIO * self.busy_ratio - late / every
        far = min(max(math.ceil(near / left), few), many) if left > 0 else many
        lead_ns = max(_LEAD * period_ns, 2 * sum(aim.reads.usual_ns for aim in self.all_aims))
        for aim in self.all_aims:
            aim.far, aim.lead_ns = far, lead_ns
        return every

    def announce(self, now_ns: int) -> None:
        """An edge has been announced."""
        for aim in self.all_aims:
            aim.announce(now_ns)
            self._plan(aim, now_ns)
        self.next_ns = min(aim.open_ns for aim in self.all_aims)

    @property
    def busy(self) -> bool:
        """An announced edge still waits for ticks."""
        return any(aim.busy for aim in self.all_aims)

    def choose(self, now_ns: int, until_ns: float, step_ns: float) -> int | None:
        """
        Choose the counter to read now.

        Args:
            now_ns: now.
            until_ns: when power is due; a read is begun only if it will be over by then.
            step_ns: the power's period.

        Returns:
            Its index; None: none, look again at `next_ns`.
        """
        self._until_ns, self._step_ns = until_ns, step_ns
        self._seek_one(now_ns)
        ready = []
        for number, aim in enumerate(self.all_aims):
            if aim.close_ns < now_ns or aim.open_ns < now_ns - aim.grid_ns:
                self._plan(aim, now_ns)
            if aim.open_ns <= now_ns:
                ready.append((aim.close_ns, aim.open_ns, number))
        for _, _, number in sorted(ready):
            if self._fits(self.all_aims[number], now_ns, until_ns, step_ns):
                return number
        opens = [aim.open_ns for aim in self.all_aims if aim.open_ns > now_ns]
        if ready:
            opens.append(round(until_ns))
        self.next_ns = min(opens)
        return None

    def took(self, number: int, before_ns: int, after_ns: int, value: float) -> None:
        """Take a reading of counter *number* into account."""
        aim = self.all_aims[number]
        if aim.around and after_ns > self._until_ns + _LATE_NS:
            aim.hold_until_ns = after_ns + _HOLD_NS
        aim.took(before_ns, after_ns, value)
        self._plan(aim, after_ns)
        self.next_ns = min(other.open_ns for other in self.all_aims)

    def _seek_one(self, now_ns: int) -> None:
        # Together they would be read too seldom to see each tick.
        if any(aim.seeking for aim in self.all_aims):
            return
        for aim in self.all_aims:
            if aim.ticks is None and aim.seek_at_ns <= now_ns:
                aim.seek(now_ns)
                self._plan(aim, now_ns)
                return

    def _fits(self, aim: Aim, now_ns: int, until_ns: float, step_ns: float) -> bool:
        """Whether a read of this one will be over before power is due."""
        if aim.around and not aim.learning:
            # At the right time or not at all; what it costs the power is paid for afterwards.
            return True
        left_ns = until_ns - now_ns
        # The others can wait for their turn right after the power, where the longest disturb least.
        takes_ns = aim.reads.usual_ns if aim.seeking else aim.reads.long_ns
        return left_ns >= min(takes_ns, _EARLY_RATIO * step_ns)

    def _plan(self, aim: Aim, now_ns: int) -> None:
        over = aim.plan(now_ns)
        turns = 0
        while over and turns < _TURNS:
            if aim.owed:
                aim.owed -= 1
            over = aim.plan(now_ns, self._next_tick(aim, now_ns))
            turns += 1
        if aim.around and aim.learning and self._step_ns < math.inf:
            # It would not fit before the power that is due next: rather a little earlier than after.
            rounds = math.ceil((aim.open_ns - self._until_ns) / self._step_ns)
            due_ns = self._until_ns + rounds * self._step_ns
            early_ns = round(due_ns - aim.reads.long_ns) - _MARGIN_NS
            if aim.earliest_ns <= early_ns < aim.open_ns and early_ns >= now_ns:
                aim.open_ns = early_ns

    def _next_tick(self, aim: Aim, now_ns: int) -> int:
        """Which tick an aim wants next: those that all read, or each while it learns."""
        following = aim.next_tick(now_ns)
        every = self.every()
        if every == 1 or aim.owed or aim.learning or aim.ticks is None:
            return following
        # Ticks of the first one, each of round number, and this one's next after it.
        first = next((other.ticks for other in self.all_aims if other.ticks is not None), aim.ticks)
        if aim.ticks is first:
            return -(-following // every) * every
        number, _ = first.shown(*[sum(aim.ticks.span_ns(following)) / 2] * 2)
        number -= number % every
        while True:
            at_ns = sum(first.span_ns(number)) / 2
            found = aim.ticks.shown(at_ns, at_ns)[0] + 1
            if found >= following:
                return found
            number += every

