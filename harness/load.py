"""The load loop: sends a workload as its arrivals say and reports every request exactly once."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import uvloop

from .answer import Answer, LoadProgress
from .arrivals import due_offsets_s, slot_delays_s
from .client import Connection
from .dial import Dialer, DialError
from .errors import ConfigError, EngineError
from .load_audit import LoadAudit, Tally
from .openai_api import build_body, build_head, finish_message, target

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from .arrivals import Arrivals
    from .contracts import Endpoint
    from .journal import JournalWriter
    from .timeline import Phase, Request, RequestTrace

__all__ = ["LoadAudit", "LoadPlan", "LoadProgress", "drive", "run"]

_TICK_S: Final = 0.05
_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTS_AT_ONCE: Final = 64
_OPEN_LOOP_CONNECTIONS: Final = 64
_AHEAD_BYTES: Final = 64 * 1024 * 1024
_AHEAD_REQUESTS: Final = 10_000
_REFILL_S: Final = 0.002
_REDIAL_PAUSE_S: Final = 0.05
_GC_THRESHOLD: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """
    One phase of load.

    Args:
        endpoint: where to.
        requests: endless or finite; consumed in order, and ahead of need: at the end
            more may have been taken than were sent, unless request_count bounds it.
        phase: goes into every request's trace.
        arrivals: when requests are due.
        request_count: stop issuing after so many; None: duration_s decides.
        duration_s: stop issuing after so long; requests in flight are finished.
        request_timeout_s: from sending to the end of the answer.
        fixed_length: extra JSON fields that pin the output's length.
        seed: of the arrival schedule.
        max_failures_in_a_row: give up after so many; None: never.
    """

    endpoint: Endpoint
    requests: Iterator[Request]
    phase: Phase
    arrivals: Arrivals
    request_count: int | None
    duration_s: float | None
    request_timeout_s: float
    fixed_length: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    max_failures_in_a_row: int | None = 20

    def __post_init__(self) -> None:
        if self.request_count is None and self.duration_s is None:
            raise ConfigError(
                "the load has neither a request count nor a duration, so it would never end",
                remedy="give `--request-count N` or a duration",
            )


async def drive(
    plan: LoadPlan,
    *,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: asyncio.Event,
) -> LoadAudit:
    """
    Run one phase of load to its end.

    Connections are opened and bodies built before the first request is due.
    When *stop* is set no request is sent any more and those in flight are
    closed at once and reported with error kind `interrupted`.

    Args:
        plan: what to send and when.
        journal: gets rows of EVENT_DTYPE; flushed at least every 100 ms.
        on_result: called once for every request issued, in order of ending.
        progress: written as the load goes.
        stop: ends the phase early.

    Returns:
        How the client fared.

    Raises:
        EngineError: *max_failures_in_a_row* requests failed; names the last failure.
        ConfigError: a request cannot be put into the endpoint's form.
    """
    phase = _Phase(plan, journal=journal, on_result=on_result, progress=progress)
    return await phase.run(stop)


def run(
    plan: LoadPlan,
    *,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: threading.Event,
) -> LoadAudit:
    """`drive` for callers without a loop; *stop* is looked at every 50 ms."""

    async def main() -> LoadAudit:
        stopped = asyncio.Event()

        async def watch() -> None:
            # A threading.Event cannot wake a loop, so it is asked.
            while not stop.is_set():  # noqa: ASYNC110
                await asyncio.sleep(_TICK_S)
            stopped.set()

        watcher = asyncio.create_task(watch())
        try:
            return await drive(
                plan, journal=journal, on_result=on_result, progress=progress, stop=stopped
            )
        finally:
            watcher.cancel()

    # A collection that walks all that was imported would stall the loop, and
    # frequent young ones would walk little but bytes in transit.
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, *thresholds[1:])
    try:
        return uvloop.run(main())
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class _Phase:
    """A running phase: its queue of bodies, its connections and its requests in flight."""

    def __init__(
        self,
        plan: LoadPlan,
        *,
        journal: JournalWriter,
        on_result: Callable[[RequestTrace], None],
        progress: LoadProgress,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._journal = journal
        self._on_result = on_result
        self._progress = progress
        self._dialer = Dialer(
            plan.endpoint,
            loop=loop,
            timeout_s=min(_CONNECT_TIMEOUT_S, plan.request_timeout_s),
        )
        self._head = build_head(plan.endpoint, request_target=target(plan.endpoint))
        self._run_id = f"jm-{time.time_ns():x}"
        self._ahead: deque[tuple[Request, bytes]] = deque()
        self._ahead_bytes = 0
        self._left = plan.request_count
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._ended = asyncio.Event()
        self._failure: EngineError | None = None
        self._failures_in_a_row = 0
        self._stop_ns: int | None = None
        self._tally = Tally(t_start_ns=time.perf_counter_ns())

    async def run(self, stop: asyncio.Event) -> LoadAudit:
        arrivals = self._plan.arrivals
        self._fill(until_ns=None)
        await self._open_connections()
        before_start = self._dialer.opened
        start_ns = time.perf_counter_ns()
        self._tally = Tally(t_start_ns=start_ns)
        if self._plan.duration_s is not None:
            self._stop_ns = start_ns + round(self._plan.duration_s * 1e9)
        ticker = asyncio.create_task(self._tick())
        stopper = asyncio.create_task(self._watch(stop))
        try:
            async with asyncio.TaskGroup() as tasks:
                if arrivals.closed:
                    for delay_s in slot_delays_s(arrivals):
                        tasks.create_task(self._slot(start_ns + round(delay_s * 1e9)))
                else:
                    tasks.create_task(self._schedule(tasks, start_ns))
        except* (ConfigError, EngineError) as group:
            raise group.exceptions[0] from None
        finally:
            ticker.cancel()
            stopper.cancel()
            for connection in [*self._idle, *self._busy]:
                connection.close()
            self._journal.flush()
        if self._failure is not None:
            raise self._failure
        return self._tally.audit(
            arrivals,
            connections_opened=self._dialer.opened,
            connections_before_start=before_start,
        )

    # bodies, ahead of time

    def _fill(self, *, until_ns: int | None) -> None:
        """Build bodies ahead, up to a limit in number, bytes and time."""
        while (
            self._left != 0
            and len(self._ahead) < _AHEAD_REQUESTS
            and self._ahead_bytes < _AHEAD_BYTES
            and (until_ns is None or time.perf_counter_ns() < until_ns)
        ):
            # An endless workload is built as far as the slots need at once.
            if self._left is None and len(self._ahead) >= self._enough():
                return
            request = next(self._plan.requests, None)
            if request is None:
                self._left = 0
                return
            if self._left is not None:
                self._left -= 1
            body = build_body(request, self._plan.endpoint, self._plan.fixed_length)
            self._ahead.append((request, body))
            self._ahead_bytes += len(body)

    def _enough(self) -> int:
        return 4 * (self._plan.arrivals.concurrency or _OPEN_LOOP_CONNECTIONS) + 64

    def _next(self) -> tuple[Request, bytes] | None:
        if self._ended.is_set() or (
            self._stop_ns is not None and time.perf_counter_ns() >= self._stop_ns
        ):
            return None
        if not self._ahead:
            self._fill(until_ns=time.perf_counter_ns() + round(_REFILL_S * 1e9))
        if not self._ahead:
            return None
        request, body = self._ahead.popleft()
        self._ahead_bytes -= len(body)
        return request, body

    # connections

    async def _open_connections(self) -> None:
        wanted = self._plan.arrivals.concurrency or _OPEN_LOOP_CONNECTIONS
        if self._left == 0:
            wanted = min(wanted, len(self._ahead))
        gate = asyncio.Semaphore(_CONNECTS_AT_ONCE)

        async def open_one() -> None:
            async with gate:
                try:
                    self._idle.append(await self._dialer.dial())
                except DialError:
                    return  # the request that needs it dials again and reports why

        await asyncio.gather(*(open_one() for _ in range(wanted)))

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self._dialer.dial()

    # arrivals

    async def _slot(self, t_first_ns: int) -> None:
        await self._until(t_first_ns)
        while (item := self._next()) is not None:
            await self._exchange(*item, t_due_ns=time.perf_counter_ns())

    async def _schedule(self, tasks: asyncio.TaskGroup, start_ns: int) -> None:
        arrivals = self._plan.arrivals
        offsets = (
            None if arrivals.pattern == "trace" else due_offsets_s(arrivals, seed=self._plan.seed)
        )
        cap = asyncio.Semaphore(arrivals.concurrency) if arrivals.concurrency else None

        async def one(request: Request, body: bytes, t_due_ns: int) -> None:
            try:
                await self._exchange(request, body, t_due_ns=t_due_ns)
            finally:
                if cap is not None:
                    cap.release()

        while (item := self._next()) is not None:
            offset_s = next(offsets) if offsets else _trace_offset_s(item[0], arrivals)
            t_due_ns = start_ns + round(offset_s * 1e9)
            if self._stop_ns is not None and t_due_ns >= self._stop_ns:
                return
            await self._until(t_due_ns)
            if cap is not None:
                await cap.acquire()
            if self._ended.is_set():
                return
            tasks.create_task(one(*item, t_due_ns))

    async def _until(self, t_ns: int) -> None:
        """Sleep until *t_ns*, or until the phase is ended."""
        wait_s = (t_ns - time.perf_counter_ns()) / 1e9
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._ended.wait()
            except TimeoutError:
                return

    # one request

    async def _exchange(self, request: Request, body: bytes, *, t_due_ns: int) -> None:
        answer = Answer(
            request,
            phase=self._plan.phase,
            t_due_ns=t_due_ns,
            write_event=self._journal.append,
            progress=self._progress,
        )
        self._tally.issue()
        self._progress.sent += 1
        self._progress.in_flight += 1
        try:
            await self._attempt(answer, request, body)
        except DialError as error:
            answer.fail(time.perf_counter_ns(), error.kind, error.message)
        self._report(answer)
        if answer.t_sent_ns is None:
            await self._until(time.perf_counter_ns() + round(_REDIAL_PAUSE_S * 1e9))

    async def _attempt(self, answer: Answer, request: Request, body: bytes) -> None:
        message = finish_message(self._head, body, request_id=f"{self._run_id}-{request.index}")
        connection = await self._connection()
        while not self._ended.is_set():
            self._busy.add(connection)
            answered = await connection.exchange(
                message, answer, timeout_s=self._plan.request_timeout_s
            )
            self._busy.discard(connection)
            if connection.usable:
                self._idle.append(connection)
            if answered:
                return
            self._tally.stale += 1
            connection = await self._dialer.dial()
        connection.close()
        answer.fail(time.perf_counter_ns(), "interrupted", "stopped before it was sent")

    def _report(self, answer: Answer) -> None:
        trace = answer.trace()
        self._progress.in_flight -= 1
        self._progress.finished += 1
        self._tally.add(trace)
        if trace.error_kind is None:
            self._failures_in_a_row = 0
        elif trace.error_kind != "interrupted":
            self._progress.failed += 1
            self._failures_in_a_row += 1
            limit = self._plan.max_failures_in_a_row
            if limit is not None and self._failures_in_a_row >= limit and self._failure is None:
                self._failure = EngineError(
                    f"{limit} requests in a row failed, the last one with "
                    f"{trace.error_kind}: {trace.error}",
                    remedy=f"check the server at {self._plan.endpoint.base_url} and its log",
                )
                self._end("the load was given up")
        self._on_result(trace)

    # the clockwork around it

    def _end(self, reason: str) -> None:
        self._ended.set()
        for connection in [*self._busy]:
            connection.abort("interrupted", reason)

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._end("stopped by the user")

    async def _tick(self) -> None:
        """Flush the journal, build bodies ahead, and see how late the loop serves this."""
        while True:
            due_ns = time.perf_counter_ns() + round(_TICK_S * 1e9)
            await asyncio.sleep(_TICK_S)
            # The loop's own timers count whole milliseconds, so one can fire early.
            self._tally.loop_lags_s.append(max(time.perf_counter_ns() - due_ns, 0) / 1e9)
            self._journal.flush()
            self._fill(until_ns=time.perf_counter_ns() + round(_REFILL_S * 1e9))


def _trace_offset_s(request: Request, arrivals: Arrivals) -> float:
    if request.t_offset_s is None:
        raise ConfigError(
            f"request {request.index} of the workload has no time of its own",
            remedy="choose an arrival pattern other than trace, or a workload that is a trace",
        )
    return request.t_offset_s * arrivals.time_scale
