"""Several client processes for one load: the same clock, a journal each, joined afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.errors import ConfigError, EngineError, JoulemarkError
from harness.journal import JournalWriter, read_journal
from harness.timeline import EVENT_DTYPE

from .loop import run_from
from .progress import LoadProgress

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from harness.timeline import RequestTrace

    from .audit import LoadAudit, Tally
    from .plan import LoadPlan

_REPORT_S: Final = 0.1
_HEAD_START_NS: Final = 50_000_000
_READY_TIMEOUT_S: Final = 60.0


def run_processes(
    plan: LoadPlan,
    *,
    processes: int,
    shards: Path,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: threading.Event,
    cpus: Sequence[int] = (),
) -> LoadAudit:
    """
    `load.run`, spread over *processes* forked clients.

    Each client takes every so-many-th request, slot and due time of *plan*, so
    the whole is the same load. They begin at one instant of the shared clock.
    While the load runs each writes `events.<n>` in *shards*; at the end the
    rows are appended to *journal* in order of time and those files are removed,
    so after a crash they are still there.

    Args:
        plan: its workload is iterated in every process: it must give the same
            requests each time it is forked, as a seeded generator does.
        processes: at most one a slot is started.
        shards: an existing folder.
        journal: gets all events.
        on_result: called in this process, once a request, a moment after it ended.
        progress: summed over the processes about ten times a second.
        stop: ends the load early.
        cpus: cores the processes are bound to, in turn; empty: not bound.

    Raises:
        ConfigError: this process may not use one of *cpus*.
        EngineError: a process failed or died; the others are stopped.
    """
    barred = sorted(set(cpus) - os.sched_getaffinity(0))
    if barred:
        raise ConfigError(
            f"load.client_cpus names core {barred[0]}, which this process may not use",
            remedy=f"choose from {sorted(os.sched_getaffinity(0))}",
        )
    slots = plan.arrivals.concurrency
    count = processes if slots is None else min(processes, slots)
    # Forked, not spawned: a workload is a running generator, which cannot be pickled.
    context = multiprocessing.get_context("fork")
    stopped = context.Event()
    pipes: list[Connection] = []
    children: list[ForkProcess] = []
    for number in range(count):
        ours, theirs = context.Pipe()
        share = dataclasses.replace(plan, shard=(number, count))
        cpu = cpus[number % len(cpus)] if cpus else None
        child = context.Process(
            target=_child,
            args=(share, shards / f"events.{number}", theirs, stopped, cpu),
            daemon=True,
        )
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    parent = _Parent(pipes, on_result=on_result, progress=progress)
    try:
        parent.release()
        while parent.open:
            parent.listen(_REPORT_S)
            if stop.is_set() or parent.failure is not None:
                stopped.set()
    finally:
        stopped.set()
        for child in children:
            child.join(_READY_TIMEOUT_S)
        _join(shards, count, journal)
    if parent.failure is not None:
        raise parent.failure
    if parent.tally is None:
        raise EngineError(
            f"none of the {count} client processes reported an end",
            remedy="look for the kernel's out-of-memory killer in the system log",
        )
    return parent.tally.audit(plan.arrivals)


class _Parent:
    """What the children say, taken in."""

    def __init__(
        self,
        pipes: Sequence[Connection],
        *,
        on_result: Callable[[RequestTrace], None],
        progress: LoadProgress,
    ) -> None:
        self.open = list(pipes)
        self.failure: JoulemarkError | None = None
        self.tally: Tally | None = None
        self._on_result = on_result
        self._progress = progress
        self._counts = {id(pipe): (0, 0, 0, 0, 0) for pipe in pipes}

    def release(self) -> None:
        """Wait until all have opened their connections, then name the common start."""
        waiting = list(self.open)
        for pipe in waiting:
            if pipe.poll(_READY_TIMEOUT_S):
                self._take(pipe)
        start_ns = time.perf_counter_ns() + _HEAD_START_NS
        for pipe in list(self.open):
            pipe.send(start_ns)

    def listen(self, seconds: float) -> None:
        """Take in what comes within *seconds*."""
        for pipe in wait(self.open, seconds):
            self._take(pipe)  # type: ignore[arg-type]

    def _take(self, pipe: Connection) -> None:
        try:
            what, value = pipe.recv()
        except EOFError:
            self.open.remove(pipe)
            self.failure = self.failure or EngineError(
                "a client process died in the middle of the load",
                remedy="look for the kernel's out-of-memory killer in the system log",
            )
            return
        if what == "results":
            counts, traces = value
            self._counts[id(pipe)] = counts
            self._show()
            for trace in traces:
                self._on_result(trace)
        elif what == "failed":
            self.failure = self.failure or value
            self.open.remove(pipe)
        elif what == "done":
            self.open.remove(pipe)
            if self.tally is None:
                self.tally = value
            else:
                self.tally.join(value)

    def _show(self) -> None:
        progress = self._progress
        totals = [sum(column) for column in zip(*self._counts.values(), strict=True)]
        progress.sent, progress.finished, progress.failed = totals[:3]
        progress.in_flight, progress.output_tokens = totals[3:]


class _Reporter:
    """A child's end of the pipe: sends what has ended, now and then, in one piece."""

    def __init__(self, pipe: Connection, stopped: Event) -> None:
        self.progress = LoadProgress()
        self._pipe = pipe
        self._stopped = stopped
        self._traces: list[RequestTrace] = []
        self._due_ns = 0

    def add(self, trace: RequestTrace) -> None:
        """One request has ended."""
        self._traces.append(trace)

    def is_set(self) -> bool:
        """The parent wants an end; the loop asks twenty times a second, so we report here."""
        if time.perf_counter_ns() >= self._due_ns:
            self.send()
        return self._stopped.is_set()

    def send(self) -> None:
        """Send everything that waits."""
        p = self.progress
        counts = (p.sent, p.finished, p.failed, p.in_flight, p.output_tokens)
        traces, self._traces = self._traces, []
        self._pipe.send(("results", (counts, traces)))
        self._due_ns = time.perf_counter_ns() + round(_REPORT_S * 1e9)

    async def start(self) -> int:
        """Say that we are ready and wait for the common start."""
        self.send()
        while not self._pipe.poll():  # noqa: ASYNC110 - nothing else runs before the start
            await asyncio.sleep(0.001)
        start_ns: int = self._pipe.recv()
        await asyncio.sleep(max(start_ns - time.perf_counter_ns(), 0) / 1e9)
        return start_ns


def _child(plan: LoadPlan, path: Path, pipe: Connection, stopped: Event, cpu: int | None) -> None:
    import signal  # noqa: PLC0415 - only a child needs it

    # Ctrl-C reaches the whole group; the parent decides and tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    reporter = _Reporter(pipe, stopped)
    journal = JournalWriter(path, EVENT_DTYPE, {})
    try:
        tally = run_from(
            plan,
            journal=journal,
            on_result=reporter.add,
            progress=reporter.progress,
            stop=reporter,
            start=reporter.start,
        )
        journal.close()
        reporter.send()
        pipe.send(("done", tally))
    except JoulemarkError as error:
        journal.close()
        reporter.send()
        pipe.send(("failed", error))
    pipe.close()


def _join(shards: Path, count: int, journal: JournalWriter) -> None:
    """Append the shards' rows to *journal* in order of time, then remove the shards."""
    paths = [shards / f"events.{number}" for number in range(count)]
    present = [path for path in paths if path.exists()]
    rows = [read_journal(path, EVENT_DTYPE)[1] for path in present]
    if rows:
        merged: Any = np.concatenate(rows)
        journal.append(merged[np.argsort(merged["t_ns"], kind="stable")].tobytes())
        journal.flush()
    for path in present:
        path.unlink()
