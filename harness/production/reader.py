"""Reads one power source from a thread of its own, so that a hanging driver stops nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, ReadStatus

from .meter import Reading

if TYPE_CHECKING:
    from harness.contracts import PowerSession, PowerSource

_LOG: Final = logging.getLogger(__name__)
_BRIDGE_NS: Final = 500_000_000
"""The longest silence across which watts are integrated, as in a run."""
_FACTS_S: Final = 10.0
_REOPEN_S: Final = 30.0
_RANK: Final = {"instant": 0, "mean": 1, "average": 2}


@dataclass(slots=True)
class Integrator:
    """Joules from watts, by trapezoids; a gap begins a new epoch instead of being bridged."""

    t_ns: int = 0
    watts: float = 0.0
    energy_j: float = 0.0
    epoch: int = 0

    def add(self, t_ns: int, watts: float) -> Reading:
        """Take one power reading; returns the counter it makes."""
        gap_ns = t_ns - self.t_ns
        if self.t_ns and gap_ns <= _BRIDGE_NS:
            self.energy_j += (watts + self.watts) / 2 * gap_ns / 1e9
        else:
            self.epoch += 1
        self.t_ns, self.watts = t_ns, watts
        return Reading(t_ns=t_ns, energy_j=self.energy_j, epoch=self.epoch)


class SourceReader:
    """
    The thread of one power source.

    Args:
        name: of the source.
        source: its options; opened here, and again when it has gone dead.
        power_hz: how often watts are read; counters are read when asked for.
    """

    def __init__(self, name: str, source: PowerSource, *, power_hz: float) -> None:
        self.name = name
        self._source = source
        self._session: PowerSession = source.open()
        self._period_s = max(1 / power_hz, self._session.period_s or 0.0)
        self._on_demand = self._session.period_s is None
        self._calls = tuple(tuple(call) for call in self._session.calls)
        self.channels: tuple[Channel, ...] = tuple(itertools.chain(*self._calls))
        counts = [any(one.quantity == "energy" for one in call) for call in self._calls]
        self._counters = [index for index, energy in enumerate(counts) if energy]
        meters = [index for index, energy in enumerate(counts) if not energy]
        self._turn = meters if self._on_demand else self._counters + meters
        self.readings: dict[str, Reading] = {}
        """Channel name → its newest counter reading."""
        self._newest: dict[int, tuple[int, Sequence[tuple[float, ReadStatus]]]] = {}
        """Call → when it was made last and what it said."""
        self.facts: Mapping[str, Any] = {}
        self._integrators = {name: Integrator() for name in _uncounted(self.channels)}
        self._booked = [
            [
                place
                for place, one in enumerate(call)
                if one.quantity == "energy" or one.name in self._integrators
            ]
            for call in self._calls
        ]
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopped = False
        self._good_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"power-{name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End; a driver that hangs is left behind."""
        self._stopped = True
        self._asked.put(_nothing)
        self._thread.join(timeout=2.0)

    def ask(self, done: Callable[[], None]) -> None:
        """Read the counters now and call *done*, from the thread, when they are there."""
        self._asked.put(done)

    @property
    def watts(self) -> dict[tuple[str, Boundary, str], tuple[int, float]]:
        """(device, boundary, sense) → when and how much; one that failed last time is missing."""
        return {
            (channel.device, channel.boundary, channel.sense): (t_ns, value)
            for index, (t_ns, answers) in list(self._newest.items())
            for channel, (value, status) in zip(self._calls[index], answers, strict=True)
            if status == ReadStatus.OK and channel.quantity == "power"
        }

    def watch(self, pids: Sequence[int]) -> None:
        """Process ids of the engines, for sources that account by process."""
        self._session.watch(pids)

    def alive(self, within_s: float) -> bool:
        """Whether it has given a value lately."""
        return time.monotonic() - self._good_s <= within_s

    def _run(self) -> None:
        due_s = facts_due_s = time.monotonic()
        while not self._stopped:
            try:
                done = self._asked.get(timeout=max(due_s - time.monotonic(), 0.0))
            except queue.Empty:
                pass
            else:
                # A slow source is not asked out of turn: its last reading has to do.
                self._read(self._counters if self._on_demand else ())
                done()
            now_s = time.monotonic()
            if now_s >= due_s:
                self._read(self._turn)
                due_s = max(due_s + self._period_s, now_s)
            if now_s >= facts_due_s:
                facts_due_s = now_s + _FACTS_S
                self.facts = self._session.facts()
            if not self.alive(_REOPEN_S):
                self._reopen()
        self._session.close()

    def _read(self, calls: Sequence[int]) -> None:
        for index in calls:
            before_ns = time.perf_counter_ns()
            answers = self._session.read(index)
            t_ns = (before_ns + time.perf_counter_ns()) // 2
            # Watts are only looked at when somebody scrapes: at 20 Hz that is most of them never.
            self._newest[index] = (t_ns, answers)
            if any(status == ReadStatus.OK for _, status in answers):
                self._good_s = time.monotonic()
            for place in self._booked[index]:
                self._book(self._calls[index][place], t_ns, *answers[place])

    def _book(self, channel: Channel, t_ns: int, value: float, status: ReadStatus) -> None:
        """Make one channel's answer the newest reading of its counter."""
        if status != ReadStatus.OK:
            reading = Reading(t_ns=t_ns, energy_j=None, status=status)
        elif channel.quantity == "energy":
            reading = Reading(t_ns=t_ns, energy_j=value, status=status)
        else:
            reading = self._integrators[channel.name].add(t_ns, value)
        self.readings[channel.name] = reading

    def _reopen(self) -> None:
        self._good_s = time.monotonic()
        try:
            fresh = self._source.open()
        except PowerUnavailableError as error:
            _LOG.warning("power source %s is dead and does not open again: %s", self.name, error)
            return
        names = [channel.name for call in fresh.calls for channel in call]
        if names != [channel.name for channel in self.channels]:
            _LOG.warning("power source %s came back with other channels; restart me", self.name)
            fresh.close()
            return
        self._session.close()
        self._session = fresh
        _LOG.warning("power source %s was opened again", self.name)


async def read_counters(readers: Sequence[SourceReader], *, within_s: float) -> None:
    """Ask all sources at once; one that does not answer in *within_s* keeps its last reading."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = []
    for reader in readers:
        future: asyncio.Future[None] = loop.create_future()
        futures.append(future)
        reader.ask(functools.partial(_settle_from_thread, loop, future))
    await asyncio.wait(futures, timeout=within_s)


def _settle_from_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    # A driver that hung may answer when the loop has ended.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """Asked for when the thread only has to wake up."""


def _uncounted(channels: Sequence[Channel]) -> list[str]:
    """The best power channel of each device that has no energy counter."""
    counted = {channel.device for channel in channels if channel.quantity == "energy"}
    best: dict[tuple[str, str], Channel] = {}
    for channel in channels:
        if channel.quantity == "power" and channel.device not in counted:
            key = (channel.device, channel.boundary)
            if key not in best or _RANK[channel.sense] < _RANK[best[key].sense]:
                best[key] = channel
    return [channel.name for channel in best.values()]
