"""The load loop: sends a workload as its arrivals say and reports every request exactly once."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Final, Protocol

import uvloop

from .phase import LoadPhase

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.journal import JournalWriter
    from harness.timeline import RequestTrace

    from .audit import LoadAudit, Tally
    from .phase import Start
    from .plan import LoadPlan
    from .progress import LoadProgress

_STOP_POLL_S: Final = 0.05
_GC_THRESHOLD: Final = 50_000


class StopFlag(Protocol):
    """A threading.Event, or a process's."""

    def is_set(self) -> bool:
        """The load is to end."""
        ...


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
    tally = await drive_from(
        plan, journal=journal, on_result=on_result, progress=progress, stop=stop, start=_at_once
    )
    return tally.audit(plan.arrivals)


async def _at_once() -> int:
    return time.perf_counter_ns()


async def drive_from(
    plan: LoadPlan,
    *,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: asyncio.Event,
    start: Start,
) -> Tally:
    """`drive`, beginning when *start* says, for clients that begin together."""
    phase = LoadPhase(plan, journal=journal, on_result=on_result, progress=progress)
    return await phase.run(stop, start=start)


def run(
    plan: LoadPlan,
    *,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: StopFlag,
) -> LoadAudit:
    """`drive` for callers without a loop; *stop* is looked at every 50 ms."""
    tally = run_from(
        plan, journal=journal, on_result=on_result, progress=progress, stop=stop, start=_at_once
    )
    return tally.audit(plan.arrivals)


def run_from(
    plan: LoadPlan,
    *,
    journal: JournalWriter,
    on_result: Callable[[RequestTrace], None],
    progress: LoadProgress,
    stop: StopFlag,
    start: Start,
) -> Tally:
    """`run`, beginning when *start* says."""

    async def main() -> Tally:
        stopped = asyncio.Event()
        watcher = asyncio.create_task(_watch(stop, stopped))
        try:
            return await drive_from(
                plan,
                journal=journal,
                on_result=on_result,
                progress=progress,
                stop=stopped,
                start=start,
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


async def _watch(stop: StopFlag, stopped: asyncio.Event) -> None:
    # A flag of another thread or process cannot wake a loop, so it is asked.
    while not stop.is_set():  # noqa: ASYNC110
        await asyncio.sleep(_STOP_POLL_S)
    stopped.set()
