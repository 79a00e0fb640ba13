"""Takes turns between slow counters: which one is read now, within a budget."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .aim import FAR_TICKS

if TYPE_CHECKING:
    from .aim import Aim

_LEAD: Final = 0.22
"""Part of its period before a tick in which the one before is read; longer for many counters."""
_USED_RATIO: Final = 0.75
"""Of the budget; more only where leaving out ticks would not be enough."""
_ROUNDED: Final = 0.05
_TURNS: Final = 8


@dataclass(slots=True)
class Aims:
    """
    All slow counters, read one at a time.

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

    @property
    def next_ns(self) -> int:
        """When the next read may start."""
        return min(aim.open_ns for aim in self.all_aims)

    @property
    def busy(self) -> bool:
        """An announced edge still waits for ticks."""
        return any(aim.busy for aim in self.all_aims)

    def every(self) -> int:
        """One of how many ticks is read, by the budget; what is left of that is for the phase."""
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
        few, many = FAR_TICKS
        least = max(late / max(self.busy_ratio - near / many, 0.01), 1e9 / self.most_hz / period_ns)
        # A little over the budget is not worth leaving out every second tick.
        every = max(math.ceil(least - _ROUNDED), 1)
        left = _USED_RATIO * self.busy_ratio - late / every
        far = min(max(math.ceil(near / left), few), many) if left > 0 else many
        lead_ns = max(_LEAD * period_ns, 2 * sum(aim.reads.usual_ns for aim in self.all_aims))
        for aim in self.all_aims:
            aim.far, aim.lead_ns = far, lead_ns
        return every

    def announce(self, t_ns: int) -> None:
        """An edge has been announced, for then."""
        for aim in self.all_aims:
            aim.announce(t_ns)
            self._plan(aim, t_ns)

    def choose(self, now_ns: int) -> int | None:
        """The index of the counter to read now; None: none, look again at `next_ns`."""
        self._seek_one(now_ns)
        ready = []
        for number, aim in enumerate(self.all_aims):
            if aim.close_ns < now_ns or aim.open_ns < now_ns - aim.grid_ns:
                self._plan(aim, now_ns)
            if aim.open_ns <= now_ns:
                ready.append((aim.close_ns, aim.open_ns, number))
        return min(ready)[-1] if ready else None

    def took(self, number: int, before_ns: int, after_ns: int, value: float) -> None:
        """Take a reading of counter *number* into account."""
        self.all_aims[number].took(before_ns, after_ns, value)
        self._plan(self.all_aims[number], after_ns)

    def _seek_one(self, now_ns: int) -> None:
        # Together they would be read too seldom to see each tick.
        if any(aim.seeking for aim in self.all_aims):
            return
        for aim in self.all_aims:
            if aim.ticks is None and aim.seek_at_ns <= now_ns:
                aim.seek(now_ns)
                self._plan(aim, now_ns)
                return

    def _plan(self, aim: Aim, now_ns: int) -> None:
        over = aim.plan(now_ns)
        turns = 0
        while over and turns < _TURNS:
            if aim.owed:
                aim.owed -= 1
            over = aim.plan(now_ns, self._next_tick(aim, now_ns))
            turns += 1

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
