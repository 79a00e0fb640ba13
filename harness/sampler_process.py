"""The sampler's own process: reads the power sources on time and writes the journal."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from .aside import Aside, be_on_time
from .errors import ConfigError, JoulemarkError
from .journal import JournalWriter
from .power_sessions import open_sources
from .rounds import Call, Round, rounds_of
from .schedule import Aimed, Burst, FirstReads, Grid, Slow, aimed, first_reads
from .ticking import SLOW_READ_S
from .timeline import POWER_DTYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contracts import PowerSession
    from .timeline import Channel

MAX_BUSY_RATIO: Final = 0.05
"""Share of a period that reading power may take before its rate is lowered."""
MAX_COUNTER_BUSY_RATIO: Final = 0.10
"""The same of the counters. An H100's takes 2.2 to 3.6 ms: at 16 Hz, where half of this ratio would
have it, some of the shifted readings are farther apart than the counter's ticks of 100 ms."""
BURST_LIMIT_NS: Final = 150_000_000
FLUSH_NS: Final = 100_000_000
LATEST_NS: Final = 500_000_000
PRIORITY: Final = 2
"""The loop's, in the round-robin class; the thread of slow counters has one less."""


class _Loop:
    """Everything the process does between `open` and `stop`."""

    def __init__(
        self, journal: JournalWriter, sessions: Mapping[str, PowerSession], calls: list[Call]
    ) -> None:
        self.journal = journal
        self.sessions = sessions
        self.calls = calls
        self.grids: list[Grid] = []
        self.asides: list[Aside] = []
        self.aimed: Aimed | None = None
        self.rates_hz: dict[str, float] = {}
        self.burst: Burst | None = None
        self.stopped = False
        self._parent = os.getppid()
        self._input = bytearray()
        self._flush_due_ns = 0
        self._latest_due_ns = 0
        self._regular: list[Round] = []
        self._meters: dict[int, tuple[int, float]] = {}

    def start(self, power_hz: float, counter_hz: float, *, aim: bool) -> None:
        """Lay out the grids, slower where reading costs too much, and burst once."""
        for session in self.sessions.values():
            if session.period_s is not None:
                own = [call for call in self.calls if call.session is session]
                slow = Slow([Round([call]) for call in own], session.period_s)
                self._regular += slow.rounds
                self.asides.append(Aside(slow.turn))
                self.asides[-1].start()
        for counts, hertz in ((False, power_hz), (True, counter_hz)):
            chosen = [call for call in self._fast() if call.counts == counts]
            if chosen:
                rounds = rounds_of(chosen)
                first = [first_reads(one, self.journal) for one in rounds]
                most = MAX_COUNTER_BUSY_RATIO if counts else MAX_BUSY_RATIO
                period_ns = round(max(1 / hertz, sum(one.cost_s for one in first) / most) * 1e9)
                self.rates_hz["counter" if counts else "power"] = 1e9 / period_ns
                if counts and aim:
                    rounds = self._aim(rounds, first, hertz, period_ns)
                if rounds:
                    self.grids.append(Grid(rounds, period_ns, dithered=counts))
        self._regular += [one for grid in self.grids for one in grid.rounds]
        if self.aimed is not None:
            self._regular += self.aimed.rounds
            self.asides.append(self.aimed.aside)
            self.aimed.aside.start()
        now_ns = time.perf_counter_ns()
        for grid in self.grids:
            grid.begin(now_ns)
        self.mark(now_ns, whole=True)

    def _aim(
        self, rounds: list[Round], first: list[FirstReads], hertz: float, period_ns: int
    ) -> list[Round]:
        """Give slow counters that tick a thread of their own; the others are left."""
        chosen = [
            one
            for one, seen in zip(rounds, first, strict=True)
            if seen.cost_s > SLOW_READ_S * len(one.calls)
            and not seen.continuous
            and all(call.counts_alone for call in one.calls)
        ]
        if chosen:
            self.aimed = aimed(chosen, hertz, period_ns, MAX_COUNTER_BUSY_RATIO)
        return [one for one in rounds if one not in chosen]

    def mark(self, t_ns: int, *, whole: bool = False) -> None:
        """Begin a burst for an edge announced at *t_ns*."""
        quick = [one for grid in self.grids if grid.dithered for one in grid.rounds]
        counters = [call for one in quick for call in one.calls]
        if self.aimed is not None and not whole:
            self.aimed.mark(t_ns)
        now_ns = time.perf_counter_ns()
        if counters:
            until_ns = t_ns + BURST_LIMIT_NS
            self.burst = Burst(rounds_of(counters), until_ns, due_ns=now_ns, whole=whole)

    def _fast(self) -> list[Call]:
        return [call for call in self.calls if call.session.period_s is None]

    def run(self) -> None:
        """Read on time until told to stop, or until nobody is left to tell us."""
        # An edge announced just before the end still gets its tick.
        while not self.stopped or self._edge_open():
            now_ns = time.perf_counter_ns()
            inputs = () if self.stopped else (0,)
            if select.select(inputs, (), (), max(self._due_ns(now_ns) - now_ns, 0) / 1e9)[0]:
                self._listen()
            now_ns = time.perf_counter_ns()
            for grid in self.grids:
                if grid.due_ns <= now_ns:
                    grid.run(self.journal)
            if self.burst is not None and self.burst.due_ns <= now_ns:
                self.burst.run(self.journal)
                if not self.burst.rounds:
                    self.burst = None
            if self._flush_due_ns <= now_ns:
                self._flush(now_ns)
        for aside in self.asides:
            aside.end(self.journal)

    def missed(self) -> int:
        """Times that were left out because what was before them was late."""
        own = 0 if self.aimed is None else self.aimed.missed
        return own + sum(grid.missed for grid in self.grids)

    def _due_ns(self, now_ns: int) -> int:
        due_ns = now_ns + FLUSH_NS if self.burst is None else self.burst.due_ns
        for grid in self.grids:
            due_ns = min(due_ns, grid.due_ns)
        return due_ns

    def _edge_open(self) -> bool:
        return self.burst is not None or (self.aimed is not None and self.aimed.busy)

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

    def _flush(self, now_ns: int) -> None:
        """Write what there is; twice a second tell the parent how it stands."""
        self._flush_due_ns = now_ns + FLUSH_NS
        for aside in self.asides:
            aside.drain(self.journal)
        self.journal.flush()
        if now_ns >= self._latest_due_ns:
            self._latest_due_ns = now_ns + LATEST_NS
            # Pipe and all may have been inherited by a process that outlives our parent.
            self.stopped = self.stopped or os.getppid() != self._parent
            _say_if_room({"latest": {"t_ns": now_ns, "watts": self._watts(now_ns)}})

    def _watts(self, now_ns: int) -> dict[str, float]:
        """The newest watts of each boundary, one reading a device."""
        best: dict[tuple[str, str], tuple[int, float]] = {}
        for one in self._regular:
            for number, channel, latest in one.latest():
                value = latest
                rank = ("instant", "mean", "average", "counter").index(channel.sense)
                if channel.quantity == "energy":
                    then_ns, then_j = self._meters.get(number, (now_ns, math.nan))
                    self._meters[number] = (now_ns, value)
                    value = (value - then_j) / max(now_ns - then_ns, 1) * 1e9
                slot = (channel.boundary, channel.device)
                if value >= 0 and rank < best.get(slot, (99, 0.0))[0]:
                    best[slot] = (rank, value)
        watts: dict[str, float] = {}
        for (boundary, _), (_, value) in best.items():
            watts[boundary] = watts.get(boundary, 0.0) + value
        return watts


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
    round_robin = be_on_time(PRIORITY)
    # Ctrl-C goes to the whole process group; the parent tells us when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered: what follows this line is for the loop, which reads the descriptor itself.
    with open(0, "rb", buffering=0, closefd=False) as commands:
        order = orjson.loads(commands.readline())
    try:
        sessions = open_sources(order["sources"])
        calls: list[Call] = []
        channels: list[Channel] = []
        for session in sessions.values():
            for index, group in enumerate(session.calls):
                calls.append(
                    Call(session=session, index=index, channels=group, first_channel=len(channels))
                )
                channels += group
        facts = {name: session.facts() for name, session in sessions.items()}
        header = {
            "channels": [dataclasses.asdict(channel) for channel in channels],
            "sources": [list(source) for source in order["sources"]],
        }
        journal = JournalWriter(Path(order["journal"]), POWER_DTYPE, header)
    except JoulemarkError as error:
        config = isinstance(error, ConfigError)
        _say({"error": error.problem, "remedy": error.remedy, "config": config})
        return
    except OSError as error:
        _say(
            {
                "error": f"{order['journal']}: {error.strerror}",
                "remedy": "choose another path",
                "config": True,
            }
        )
        return
    loop = _Loop(journal, sessions, calls)
    gc.collect()
    gc.freeze()
    loop.start(order["power_hz"], order["counter_hz"], aim=order["aim"])
    journal.flush()
    _say({"header": header, "facts": facts, "rates_hz": loop.rates_hz})
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
                "missed": loop.missed(),
                "round_robin": round_robin,
                "aimed": {} if loop.aimed is None else loop.aimed.facts(),
                "cpu_s": cpu_ns / 1e9,
                "wall_s": t_ns / 1e9,
            }
        )
    except BrokenPipeError:
        return
    for session in sessions.values():
        session.close()


if __name__ == "__main__":
    main()
