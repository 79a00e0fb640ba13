"""When the calls into power sources are due: on a grid, in a burst, or when they tell most."""

from __future__ import annotations

import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .aim import GOLDEN, Aim
from .aside import Aside
from .rounds import Round
from .turns import Aims

if TYPE_CHECKING:
    from .rounds import Sink

BURST_STEP_NS: Final = 1_000_000
_WAIT_NS: Final = 1_000_000_000
"""No edge waits longer for its ticks."""
_PRIORITY: Final = 1
"""Below the loop's: on a single processor, too, power does not wait for a driver that spins."""
_PATIENCE_S: Final = 5.0
"""How long a read may outlast the end of the sampling."""


@dataclass(slots=True)
class Grid:
    """The rounds of one rate and the instant they are due the next time."""

    rounds: list[Round]
    period_ns: int
    dithered: bool
    """
    Shift each time by a different part of the period. A counter that ticks every
    100 ms, polled exactly every 50, would be seen at the same phase for ever and
    the instants of its ticks never get known better than to 50 ms. (That is also why
    the counters have a grid of their own: power is read at a regular pace, and the
    phases of every fifth of its rounds would be the same, too.)
    """
    origin_ns: int = 0
    number: int = 0
    missed: int = 0
    due_ns: int = 0

    def begin(self, t_ns: int) -> None:
        """Lay the grid from *t_ns* on."""
        self.origin_ns = t_ns
        self.due_ns = self._due_ns()

    def run(self, journal: Sink) -> None:
        """Read once; times that its end is too late for are left out and counted."""
        for one in self.rounds:
            one.run(journal)
        self.number += 1
        self.due_ns = self._due_ns()
        late = (time.perf_counter_ns() - self.due_ns) // self.period_ns
        if late > 0:
            self.missed += late
            self.number += late
            self.due_ns = self._due_ns()

    def _due_ns(self) -> int:
        shift = (self.number * GOLDEN) % 1.0 if self.dithered else 0.0
        return self.origin_ns + self.number * self.period_ns + int(shift * self.period_ns)


@dataclass(slots=True)
class Burst:
    """Reads the counters every millisecond after an announced edge, until each has ticked."""

    rounds: list[Round]
    """Its own: the first readings are what a tick differs from, not older ones."""
    until_ns: int
    due_ns: int
    whole: bool = False
    """Go on after the first tick, to learn how far ticks are apart."""

    def run(self, journal: Sink) -> None:
        """Read those that have not ticked yet."""
        waiting = []
        for one in self.rounds:
            before = one.firsts()
            one.run(journal)
            # NaN differs from everything: a device without a value is not waited for.
            still = [
                self.whole or not before or before[place] == value
                for place, value in enumerate(one.firsts())
            ]
            if all(still):
                waiting.append(one)
            elif any(still):
                waiting.append(one.only(still))
        self.rounds = waiting
        self.due_ns = max(self.due_ns + BURST_STEP_NS, time.perf_counter_ns())
        if self.due_ns > self.until_ns:
            self.rounds = []


@dataclass(slots=True)
class Aimed:
    """
    Reads slow counters one by one, each when it tells most, in a thread of their own.

    Aims are that thread's alone, whose work is `turn`. The loop calls `mark` and `busy`, and the
    rest once the thread has ended.
    """

    rounds: list[Round]
    """One call each."""
    aims: Aims
    aside: Aside = field(init=False)
    """The thread."""
    _marks: deque[int] = field(default_factory=deque)
    _marked_ns: int = 0
    _open: bool = False

    def __post_init__(self) -> None:
        self.aside = Aside(self.turn, priority=_PRIORITY, patience_s=_PATIENCE_S)

    def mark(self, t_ns: int) -> None:
        """Have the ticks around an edge read, from now on."""
        self._marked_ns = t_ns
        self._marks.append(t_ns)
        self.aside.wake()

    @property
    def busy(self) -> bool:
        """An announced edge still waits for ticks."""
        in_time = time.perf_counter_ns() < self._marked_ns + _WAIT_NS
        return in_time and (bool(self._marks) or self._open)

    def turn(self, journal: Sink) -> int:
        """Read one counter, if one is due; when to look again."""
        while self._marks:
            self.aims.announce(self._marks[0])
            # Before the mark is taken away: `busy` sees one or the other.
            self._open = True
            self._marks.popleft()
        number = self.aims.choose(time.perf_counter_ns())
        if number is not None:
            one = self.rounds[number]
            one.run(journal)
            self.aims.took(number, *one.latest_ns(), one.firsts()[0])
        self._open = self.aims.busy
        return self.aims.next_ns

    @property
    def missed(self) -> int:
        """Dithered times that were left out."""
        return sum(aim.missed for aim in self.aims.all_aims)

    def facts(self) -> dict[str, dict[str, float | None]]:
        """Channel → how its reads were aimed."""
        now_ns = time.perf_counter_ns()
        every = self.aims.every()
        return {
            one.calls[0].channels[0].name: aim.facts(now_ns, every)
            for one, aim in zip(self.rounds, self.aims.all_aims, strict=True)
        }


@dataclass(slots=True)
class Slow:
    """A source that is asked over a network, in a thread so that nothing waits for it."""

    rounds: list[Round]
    period_s: float

    def turn(self, journal: Sink) -> int:
        """Ask once; when to ask again."""
        began_ns = time.perf_counter_ns()
        for one in self.rounds:
            one.run(journal)
        return began_ns + round(self.period_s * 1e9)


def aimed(rounds: list[Round], hertz: float, period_ns: int, busy_ratio: float) -> Aimed:
    """
    Make the schedule of slow counters, one call at a time.

    Args:
        rounds: theirs.
        hertz: no more ticks a second.
        period_ns: of their dithered reads, where they cannot be aimed.
        busy_ratio: share of the time that they may take.
    """
    alone = [Round([call]) for one in rounds for call in one.calls]
    now_ns = time.perf_counter_ns()
    aims = [Aim(grid_ns=period_ns, begun_ns=now_ns) for _ in alone]
    return Aimed(alone, Aims(aims, most_hz=hertz, busy_ratio=busy_ratio))


@dataclass(frozen=True, slots=True)
class FirstReads:
    """What the first reads of a round say."""

    cost_s: float
    """Median of a round."""
    continuous: bool
    """Every value moved from each read to the next: no ticks to aim at."""


def first_reads(one: Round, journal: Sink) -> FirstReads:
    """Read a few times; all of it is written to the journal like anything else."""
    costs: list[float] = []
    moved: list[bool] = []
    for _ in range(5):
        old = one.firsts()
        before_ns = time.perf_counter_ns()
        one.run(journal)
        costs.append((time.perf_counter_ns() - before_ns) / 1e9)
        moved += [was != value for was, value in zip(old, one.firsts(), strict=bool(old))]
    return FirstReads(statistics.median(costs), all(moved))
