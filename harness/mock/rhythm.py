"""When the mock's streams emit: on common ticks like an engine's steps, or each in its own time."""

from __future__ import annotations

import heapq
import random
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .settings import MockSettings


_GRAIN_NS: Final = 1_000_000
"""Streams that are due within so long of each other are served together."""


class Emitter(Protocol):
    """A stream that has something to send."""

    slowness: float

    def emit(self) -> bool:
        """Send the next piece; False: that was the last."""
        ...


class Rhythm:
    """
    Calls each stream's `emit` when it is due, all from one timer.

    A late server catches up by at most one gap: beyond that the rhythm slips,
    as an engine's does, instead of bursting.

    Args:
        settings: gaps, jitter, batch or not.
        loop: its timers count whole milliseconds, so emissions are early or late by
            up to one; the write log has the times that count.
        now_ns: the clock.
    """

    def __init__(
        self,
        settings: MockSettings,
        loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._loop = loop
        self._now_ns = now_ns
        self._batch = settings.batch
        self._ttft_ns = round(settings.ttft_s * 1e9)
        self._itl_ns = round(settings.itl_s * 1e9)
        self._jitter_ratio = settings.jitter_ratio
        self._random = random.Random(settings.seed)  # noqa: S311 - reproducible jitter, no secret
        self._tick_ns = now_ns()
        self._grain_ns = min(_GRAIN_NS, self._itl_ns)
        self._due: list[tuple[int, int, Emitter]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._fired_ns = 0

    def start(self, emitter: Emitter) -> None:
        """A request has come; its first emission is ttft_s away."""
        now_ns = self._now_ns()
        self._push(now_ns + round(self._ttft_ns * emitter.slowness), emitter)
        self._arm(now_ns)

    def _push(self, due_ns: int, emitter: Emitter) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_ns, self._order, emitter))

    def _gap_ns(self) -> int:
        if not self._jitter_ratio:
            return self._itl_ns
        factor = self._random.gauss(1.0, self._jitter_ratio)
        return max(round(self._itl_ns * factor), 1)

    def _next_tick_ns(self, now_ns: int) -> int:
        while self._tick_ns <= now_ns - self._itl_ns:
            # Nobody ran: skip whole steps, keep the phase.
            self._tick_ns += (now_ns - self._tick_ns) // self._itl_ns * self._itl_ns
        while self._tick_ns <= now_ns:
            self._tick_ns += self._gap_ns()
        return self._tick_ns

    def _arm(self, now_ns: int) -> None:
        if not self._due:
            return
        wake_ns = self._due[0][0]
        if self._batch:
            # Whatever is due waits for the step that is running to end.
            if self._timer is not None:
                return
            wake_ns = self._next_tick_ns(now_ns)
        elif self._timer is not None and self._timer_ns <= wake_ns:
            return
        else:
            # A timer for each of many streams would cost more than the writing does.
            wake_ns = max(wake_ns, self._fired_ns + self._grain_ns)
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = wake_ns
        self._timer = self._loop.call_later(max(wake_ns - self._now_ns(), 0) / 1e9, self._fire)

    def _fire(self) -> None:
        self._timer = None
        # Whole milliseconds can bring us here early: the instant is taken as reached,
        # or a tick would be served twice, and a stream waited for in a busy loop.
        now_ns = max(self._now_ns(), self._timer_ns)
        self._fired_ns = now_ns
        again: list[tuple[int, Emitter]] = []
        due = self._due
        while due and due[0][0] <= now_ns:
            due_ns, _, emitter = heapq.heappop(due)
            if emitter.emit():
                # In a batch the next tick takes it, unless it is made slow.
                gap_ns = 1 if self._batch else self._gap_ns()
                if emitter.slowness > 1:
                    gap_ns = round(self._itl_ns * emitter.slowness)
                again.append((max(due_ns, now_ns - self._itl_ns) + gap_ns, emitter))
        for due_ns, emitter in again:
            self._push(due_ns, emitter)
        self._arm(now_ns)
