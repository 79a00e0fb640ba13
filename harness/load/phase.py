"""One phase of load while it runs: its connections, its requests in flight, its clockwork."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

from harness.arrivals import due_offsets_s, slot_delays_s
from harness.errors import ConfigError, EngineError
from harness.stream.answer import Answer
from harness.stream.descriptors import allow_sockets
from harness.stream.dial import Dialer, DialError
from harness.stream.openai_api import build_head, finish_message

from .audit import Tally
from .bodies import Bodies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from harness.arrivals import Arrivals
    from harness.client import Connection
    from harness.journal import JournalWriter
    from harness.timeline import Request, RequestTrace

    from .plan import LoadPlan
    from .progress import LoadProgress

    Start = Callable[[], Awaitable[int]]
    """Waits until the load may begin; returns that instant, CLOCK_MONOTONIC nanoseconds."""

_TICK_S: Final = 0.05
_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTS_AT_ONCE: Final = 64
_OPEN_LOOP_CONNECTIONS: Final = 64
_REDIAL_PAUSE_S: Final = 0.05


class LoadPhase:
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
        self._head = build_head(plan.endpoint, forwarded=self._dialer.forwarded)
        self._run_id = f"jm-{time.time_ns():x}"
        wanted = plan.share(plan.arrivals.concurrency or _OPEN_LOOP_CONNECTIONS)
        self._bodies = Bodies(plan, ahead=4 * wanted + 64)
        self._connections = wanted
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._ended = asyncio.Event()
        self._failure: EngineError | None = None
        self._failures_in_a_row = 0
        self._stop_ns: int | None = None
        self._tally = Tally(t_start_ns=time.perf_counter_ns())

    async def run(self, stop: asyncio.Event, *, start: Start) -> Tally:
        """
        Prepare, wait for *start*, send everything, and say how it went.

        Raises:
            EngineError: too many failures in a row.
            ConfigError: a request cannot be put into the endpoint's form.
        """
        self._bodies.fill()
        await self._open_connections()
        before_start = self._dialer.opened
        start_ns = await start()
        self._tally = Tally(t_start_ns=start_ns)
        if self._plan.duration_s is not None:
            self._stop_ns = start_ns + round(self._plan.duration_s * 1e9)
        ticker = asyncio.create_task(self._tick())
        stopper = asyncio.create_task(self._watch(stop))
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._plan.arrivals.closed:
                    shard, shards = self._plan.shard
                    for delay_s in slot_delays_s(self._plan.arrivals)[shard::shards]:
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
        receiver = self._dialer.receiver
        self._tally.close(
            opened=self._dialer.opened,
            before_start=before_start,
            stamps=(receiver.by_kernel, receiver.by_us),
        )
        return self._tally

    def _next(self) -> tuple[Request, bytes] | None:
        late = self._stop_ns is not None and time.perf_counter_ns() >= self._stop_ns
        return None if late or self._ended.is_set() else self._bodies.take()

    # connections

    async def _open_connections(self) -> None:
        count = self._bodies.known_count()
        wanted = self._connections if count is None else min(self._connections, count)
        allow_sockets(wanted)
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
        offsets: Iterator[float] | None = None
        if arrivals.pattern != "trace":
            every = due_offsets_s(arrivals, seed=self._plan.seed)
            offsets = islice(every, self._plan.shard[0], None, self._plan.shard[1])
        cap = asyncio.Semaphore(self._connections) if arrivals.concurrency else None

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
        self._dialer.receiver.turn()  # what has come by now still counts
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
            self._bodies.refill()


def _trace_offset_s(request: Request, arrivals: Arrivals) -> float:
    if request.t_offset_s is None:
        raise ConfigError(
            f"request {request.index} of the workload has no time of its own",
            remedy="choose an arrival pattern other than trace, or a workload that is a trace",
        )
    return request.t_offset_s * arrivals.time_scale
