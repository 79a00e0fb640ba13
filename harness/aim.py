"""Aims the reads of a slow counter at the ticks that are expected, as long as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from . import ticking
from .durations import Durations

if TYPE_CHECKING:
    from .ticking import Ticking

GOLDEN: Final = 0.6180339887498949
SLACK_NS: Final = 200_000.0
"""Ticks off the lattice by more end the aiming; the H100's leave ten times as much to spare."""
_MARGIN_NS: Final = 300_000
FAR_TICKS: Final = (4, 16)
"""Of ticks that are known well, one of at least and at most so many is read around."""
_SEEN: Final = 3
"""Successive ticks to begin with."""
_SEEK_NS: Final = 1_000_000_000
_PAUSE_NS: Final = 1_000_000
_BURST_NS: Final = 150_000_000
_BACK_OFF_NS: Final = 10_000_000_000
_BACK_OFF_LIMIT_NS: Final = 600_000_000_000
_LEARNED: Final = 32
"""Reads around ticks, one in each, that a new lattice has to stand."""
_NARROW_READS: Final = 2.0
"""Ticks are known well where they are known to so many times the duration of a read."""
_WIDE_READS: Final = 4.0
_LOST_RATIO: Final = 0.7
"""Ticks that can be anywhere in so much of a period cannot be counted."""
_PROBES: Final = 6
"""One in so many reads around ticks is over before the tick can be, and one begins after it."""
_PATIENCE: Final = 12
"""After so many reads around ticks they become fewer, however well these are known."""
_ANNOUNCED: Final = 3
"""Ticks read one by one for an announced edge: that before it, and two after it."""
_ANNOUNCED_LEAD: Final = 0.8


@dataclass(slots=True)
class Aim:
    """
    One counter: what is known of its ticks, and when it is to be read next.

    It is sought (read nearly back to back) until three ticks were seen one by one. Then it is
    aimed at: one read late in each wanted tick, which shows that tick and no other and that the
    next has not come yet; and now and then one around a tick, which keeps the phase, or just
    before and just after it, where a tick that is early or late would show. On an H100 40 to
    75 % of the reads begun in the 15 ms after a tick took longer than 15 ms; those begun later,
    or in the 8 ms before it, mostly take 3. As soon as a reading contradicts the lattice the
    counter is read at dithered times like any other, and sought again later.

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
    around: bool = False
    """The next read is one around the tick."""
    lead_ns: float = 0.0
    """How long before the next tick one is read."""
    far: int = FAR_TICKS[0]
    """One of how many ticks is read around, once they are known well."""
    learning: bool = False
    """The lattice is not yet known as well as it will be."""
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
    _burst_begun: bool = True
    """The first reading of a burst may show a tick that is long past."""
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
            self._seek(after_ns, value, changed=changed)
        if (changed and self._burst_begun) or after_ns > self._burst_until_ns:
            self._burst_until_ns = 0
        self._burst_begun = True
        self._value, self._last_ns, self._fresh = value, before_ns, changed

    def announce(self, now_ns: int) -> None:
        """An edge has been announced: read every tick around it."""
        if self.ticks is None:
            self._burst_until_ns, self._burst_begun = now_ns + _BURST_NS, False
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
            pause_ns = 0 if self._burst_until_ns else round(self.reads.usual_ns)
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
        if self.wanted >= self._around_tick:
            close_ns = high_ns + 2 * _MARGIN_NS
            if now_ns <= close_ns:
                self.open_ns = round(self._around_ns(low_ns, high_ns, usual_ns))
                self.close_ns, self.around = close_ns, True
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
        turn = self._dither % _PROBES
        narrow = high_ns - low_ns < _NARROW_READS * usual_ns
        if turn == _PROBES - 1 and narrow:
            # After every instant that the tick can have: is there one that comes too late?
            return high_ns + _MARGIN_NS
        if turn == _PROBES // 2 - 1 and narrow:
            return low_ns - usual_ns - _MARGIN_NS
        # Begun much before the tick or after it, it would tell less; and a driver that is busy
        # with a tick lets readers wait.
        aside = (self._dither * GOLDEN) % 1.0 - 0.5
        reach_ns = max((high_ns - low_ns) / 2, 2 * usual_ns)
        return (low_ns + high_ns - usual_ns) / 2 + aside * reach_ns

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

    def _seek(self, after_ns: int, value: float, *, changed: bool) -> None:
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
            self._burst_until_ns, self._burst_begun = now_ns + _BURST_NS, False
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
