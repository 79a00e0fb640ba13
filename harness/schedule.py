"""When each call into a power source is due: on a grid, in a burst, or in a thread of its own."""

from __future__ import annotations

import math
import statistics
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from .timeline import ReadStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contracts import PowerSession
    from .journal import JournalWriter
    from .timeline import Channel

BURST_STEP_NS: Final = 1_000_000

_RECORD: Final = struct.Struct("<qqdHH4x")
_GOLDEN: Final = 0.6180339887498949


class Sink(Protocol):
    """Where packed records go: the journal, or a queue towards it."""

    def append(self, record: bytes, /) -> None:
        """Take one record."""
        ...


@dataclass(slots=True)
class Call:
    """One call into a driver and when it is due."""

    session: PowerSession
    index: int
    channels: Sequence[Channel]
    first_channel: int
    counts: bool
    """It reads an energy counter."""
    last: list[float] = field(default_factory=list)

    def read(self, journal: Sink) -> bool:
        """Read, stamp and write; True if a counter among its channels has moved."""
        before_ns = time.perf_counter_ns()
        readings = self.session.read(self.index)
        after_ns = time.perf_counter_ns()
        values = []
        for channel, (value, status) in enumerate(readings, self.first_channel):
            journal.append(_RECORD.pack(before_ns, after_ns, value, channel, status))
            values.append(value if status == ReadStatus.OK else math.nan)
        moved = bool(self.last) and values[0] != self.last[0]
        self.last = values
        return moved


@dataclass(slots=True)
class Grid:
    """The calls of one rate and the instant the next round of them is due."""

    calls: list[Call]
    period_ns: int
    dithered: bool
    """
    Shift each round by a different part of the period. A counter that ticks every
    100 ms, polled exactly every 50, would be seen at the same phase for ever and
    the instants of its ticks never get known better than to 50 ms.
    """
    origin_ns: int = 0
    round: int = 0
    missed: int = 0

    def due_ns(self) -> int:
        """When the next round is due."""
        shift = (self.round * _GOLDEN) % 1.0 if self.dithered else 0.0
        return self.origin_ns + self.round * self.period_ns + int(shift * self.period_ns)

    def run(self, journal: JournalWriter) -> None:
        """Make a round; rounds that its end is too late for are left out and counted."""
        for call in self.calls:
            call.read(journal)
        self.round += 1
        late = (time.perf_counter_ns() - self.due_ns()) // self.period_ns
        if late > 0:
            self.missed += late
            self.round += late


@dataclass(slots=True)
class Burst:
    """Reads the counters every millisecond after an announced edge, until each has ticked."""

    calls: list[Call]
    until_ns: int
    due_ns: int
    whole: bool = False
    """Go on after the first tick, to learn how far ticks are apart."""

    def run(self, journal: JournalWriter) -> None:
        """Read those that have not ticked yet."""
        self.calls = [call for call in self.calls if not call.read(journal) or self.whole]
        self.due_ns = max(self.due_ns + BURST_STEP_NS, time.perf_counter_ns())
        if self.due_ns > self.until_ns:
            self.calls = []


@dataclass(slots=True)
class Slow:
    """A source that is asked over a network, from a thread so that nothing waits for it."""

    calls: list[Call]
    period_s: float
    records: deque[bytes] = field(default_factory=deque)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask on time until `done`; the target of the thread."""
        while True:
            began_s = time.monotonic()
            for call in self.calls:
                call.read(self.records)
            if self.done.wait(max(began_s + self.period_s - time.monotonic(), 0.0)):
                return

    def drain(self, journal: JournalWriter) -> None:
        """Move what has been read into the journal; called by the process's only writer."""
        while self.records:
            journal.append(self.records.popleft())


def read_cost_s(call: Call, journal: JournalWriter) -> float:
    """Median seconds of a few reads; they are written to the journal like all others."""
    costs = []
    for _ in range(5):
        before_ns = time.perf_counter_ns()
        call.read(journal)
        costs.append((time.perf_counter_ns() - before_ns) / 1e9)
    return statistics.median(costs)
