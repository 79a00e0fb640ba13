"""The sampler's own process: reads the power sources on time and writes the journal."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import select
import signal
import statistics
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from . import plugins
from .errors import ConfigError, JoulemarkError
from .journal import JournalWriter
from .timeline import POWER_DTYPE, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .contracts import PowerSession
    from .timeline import Channel

MAX_BUSY_RATIO: Final = 0.05
"""Share of a period that reading may take before the rate is lowered."""
BURST_STEP_NS: Final = 1_000_000
BURST_LIMIT_NS: Final = 150_000_000
FLUSH_NS: Final = 100_000_000
LATEST_NS: Final = 500_000_000

_RECORD: Final = struct.Struct("<qqdHH4x")
_GOLDEN: Final = 0.6180339887498949


@dataclass(slots=True)
class _Call:
    """One call into a driver and when it is due."""

    session: PowerSession
    index: int
    channels: Sequence[Channel]
    first_channel: int
    counts: bool
    """It reads an energy counter."""
    last: list[float] = field(default_factory=list)

    def read(self, journal: JournalWriter) -> bool:
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
class _Grid:
    """The calls of one rate and the instant the next round of them is due."""

    calls: list[_Call]
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
        shift = (self.round * _GOLDEN) % 1.0 if self.dithered else 0.0
        return self.origin_ns + self.round * self.period_ns + int(shift * self.period_ns)

    def run(self, journal: JournalWriter) -> None:
        for call in self.calls:
            call.read(journal)
        self.round += 1
        late = (time.perf_counter_ns() - self.due_ns()) // self.period_ns
        if late > 0:
            self.missed += late
            self.round += late


@dataclass(slots=True)
class _Burst:
    """Reads the counters every millisecond after an announced edge, until each has ticked."""

    calls: list[_Call]
    until_ns: int
    due_ns: int
    whole: bool = False
    """Go on after the first tick, to learn how far ticks are apart."""

    def run(self, journal: JournalWriter) -> None:
        self.calls = [call for call in self.calls if not call.read(journal) or self.whole]
        self.due_ns = max(self.due_ns + BURST_STEP_NS, time.perf_counter_ns())
        if self.due_ns > self.until_ns:
            self.calls = []


class _Loop:
    """Everything the process does between `open` and `stop`."""

    def __init__(
        self, journal: JournalWriter, sessions: Mapping[str, PowerSession], calls: list[_Call]
    ) -> None:
        self.journal = journal
        self.sessions = sessions
        self.calls = calls
        self.grids: list[_Grid] = []
        self.burst: _Burst | None = None
        self.stopped = False
        self._parent = os.getppid()
        self._input = bytearray()
        self._flush_due_ns = 0
        self._latest_due_ns = 0
        self._meters: dict[int, tuple[int, float]] = {}

    def start(self, power_hz: float, counter_hz: float) -> None:
        """Lay out the grids, slower where reading costs too much, and burst once."""
        now_ns = time.perf_counter_ns()
        for counts, hertz in ((False, power_hz), (True, counter_hz)):
            chosen = [call for call in self.calls if call.counts == counts]
            if chosen:
                cost_s = sum(_cost_s(call, self.journal) for call in chosen)
                natural_s = max(call.session.period_s or 0.0 for call in chosen)
                period_s = max(1 / hertz, cost_s / MAX_BUSY_RATIO, natural_s)
                self.grids.append(
                    _Grid(chosen, round(period_s * 1e9), dithered=counts, origin_ns=now_ns)
                )
        self.mark(now_ns, whole=True)

    def mark(self, t_ns: int, *, whole: bool = False) -> None:
        """Begin a burst for an edge announced at *t_ns*."""
        counters = [call for call in self.calls if call.counts]
        now_ns = time.perf_counter_ns()
        if counters:
            self.burst = _Burst(
                counters, until_ns=t_ns + BURST_LIMIT_NS, due_ns=now_ns, whole=whole
            )

    def run(self) -> None:
        """Read on time until told to stop, or until nobody is left to tell us."""
        # An edge announced just before the end still gets its tick.
        while not self.stopped or self.burst is not None:
            due = [grid.due_ns() for grid in self.grids]
            if self.burst is not None:
                due.append(self.burst.due_ns)
            now_ns = time.perf_counter_ns()
            wait_s = max(min(due, default=now_ns + FLUSH_NS) - now_ns, 0) / 1e9
            inputs = [] if self.stopped else [0]
            if select.select(inputs, [], [], min(wait_s, 0.1))[0]:
                self._listen()
            now_ns = time.perf_counter_ns()
            for grid in self.grids:
                if grid.due_ns() <= now_ns:
                    grid.run(self.journal)
            if self.burst is not None and self.burst.due_ns <= now_ns:
                self.burst.run(self.journal)
                if not self.burst.calls:
                    self.burst = None
            self._housekeep(now_ns)

    def _listen(self) -> None:
        data = os.read(0, 65536)
        if not data:
            self.stopped = True
            return
        self._input += data
        *lines, rest = self._input.split(b"\n")
        self._input = bytearray(rest)
        for line in lines:
            command = orjson.loads(line)
            if "mark" in command:
                self.mark(command["mark"])
            elif "watch" in command:
                for session in self.sessions.values():
                    session.watch(command["watch"])
            elif "stop" in command:
                self.stopped = True

    def _housekeep(self, now_ns: int) -> None:
        if now_ns >= self._flush_due_ns:
            self._flush_due_ns = now_ns + FLUSH_NS // 2
            self.journal.flush()
        if now_ns >= self._latest_due_ns:
            self._latest_due_ns = now_ns + LATEST_NS
            # Pipe and all may have been inherited by a process that outlives our parent.
            self.stopped = self.stopped or os.getppid() != self._parent
            _say_if_room({"latest": {"t_ns": now_ns, "watts": self._watts(now_ns)}})

    def _watts(self, now_ns: int) -> dict[str, float]:
        """The newest watts of each boundary, one reading a device."""
        best: dict[tuple[str, str], tuple[int, float]] = {}
        for call in self.calls:
            for offset, channel in enumerate(call.channels):
                value = call.last[offset] if call.last else math.nan
                rank = ("instant", "mean", "average", "counter").index(channel.sense)
                if channel.quantity == "energy":
                    key = call.first_channel + offset
                    then_ns, then_j = self._meters.get(key, (now_ns, math.nan))
                    self._meters[key] = (now_ns, value)
                    value = (value - then_j) / max(now_ns - then_ns, 1) * 1e9
                slot = (channel.boundary, channel.device)
                if value >= 0 and rank < best.get(slot, (99, 0.0))[0]:
                    best[slot] = (rank, value)
        watts: dict[str, float] = {}
        for (boundary, _), (_, value) in best.items():
            watts[boundary] = watts.get(boundary, 0.0) + value
        return watts


def _cost_s(call: _Call, journal: JournalWriter) -> float:
    """Median seconds of a few reads; they are written to the journal like all others."""
    costs = []
    for _ in range(3 if call.session.period_s else 5):
        before_ns = time.perf_counter_ns()
        call.read(journal)
        costs.append((time.perf_counter_ns() - before_ns) / 1e9)
    return statistics.median(costs)


def _open_sources(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, PowerSession]:
    sessions: dict[str, PowerSession] = {}
    for kind, options in sources:
        try:
            source = plugins.load("power", kind)(**options)
        except TypeError as error:
            raise ConfigError(
                f"the options of power source {kind!r} do not fit ({error})",
                remedy=f"see `joulemark list power` and harness/power/{kind}.py",
            ) from error
        name = kind if kind not in sessions else f"{kind}-{len(sessions)}"
        sessions[name] = source.open()
    return sessions


def _say(message: Mapping[str, Any]) -> None:
    data = memoryview(orjson.dumps(message) + b"\n")
    os.set_blocking(1, True)
    while data:
        data = data[os.write(1, data) :]


def _say_if_room(message: Mapping[str, Any]) -> None:
    # Progress is not worth waiting for a parent that does not listen.
    os.set_blocking(1, False)
    try:
        os.write(1, orjson.dumps(message) + b"\n")
    except (BlockingIOError, BrokenPipeError):
        return


def main() -> None:
    """Talk to `harness.sampler.Sampler` over stdin and stdout, one JSON document a line."""
    # Ctrl-C goes to the whole process group; the parent tells us when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered: what follows this line is for the loop, which reads the descriptor itself.
    with open(0, "rb", buffering=0, closefd=False) as commands:
        order = orjson.loads(commands.readline())
    try:
        sessions = _open_sources(order["sources"])
        calls: list[_Call] = []
        channels: list[Channel] = []
        for session in sessions.values():
            for index, group in enumerate(session.calls):
                counts = any(channel.quantity == "energy" for channel in group)
                calls.append(_Call(session, index, group, len(channels), counts))
                channels += group
        facts = {name: session.facts() for name, session in sessions.items()}
        header = {
            "channels": [dataclasses.asdict(channel) for channel in channels],
            "sources": [list(source) for source in order["sources"]],
        }
        journal = JournalWriter(Path(order["journal"]), POWER_DTYPE, header)
    except JoulemarkError as error:
        _say({"error": error.problem, "remedy": error.remedy})
        return
    except OSError as error:
        _say({"error": f"{order['journal']}: {error.strerror}", "remedy": "choose another path"})
        return
    loop = _Loop(journal, sessions, calls)
    gc.collect()
    gc.freeze()
    loop.start(order["power_hz"], order["counter_hz"])
    journal.flush()
    _say({"header": header, "facts": facts, "rates_hz": _rates(loop)})
    # What starting cost (imports, opening the driver) is not what sampling costs.
    cpu_ns, t_ns = time.process_time_ns(), time.perf_counter_ns()
    try:
        loop.run()
    finally:
        journal.close()
    cpu_ns, t_ns = time.process_time_ns() - cpu_ns, time.perf_counter_ns() - t_ns
    try:
        _say(
            {
                "facts_at_stop": {name: session.facts() for name, session in sessions.items()},
                "missed": sum(grid.missed for grid in loop.grids),
                "cpu_s": cpu_ns / 1e9,
                "wall_s": t_ns / 1e9,
            }
        )
    except BrokenPipeError:
        return
    for session in sessions.values():
        session.close()


def _rates(loop: _Loop) -> dict[str, float]:
    return {"counter" if grid.dithered else "power": 1e9 / grid.period_ns for grid in loop.grids}


if __name__ == "__main__":
    main()
