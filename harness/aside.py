"""A thread that reads beside the sampler's loop; the process's only writer fetches what it read."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rounds import Sink


class Aside:
    """
    Calls *turn* in a thread of its own, whenever that says, until it is told to end.

    Whatever *turn* works with is the thread's alone; the loop talks to it through what one
    append or one look can do. An exception ends the thread and is raised again by `drain`, so
    that it ends the process as one in the loop does. The thread does not keep the process alive.

    Args:
        turn: reads what is due; the instant, CLOCK_MONOTONIC nanoseconds, of the next turn.
        priority: in the round-robin class, where the user may; None: like any other program.
        patience_s: how long the last turn is waited for; None: what it reads does not matter.
    """

    def __init__(
        self,
        turn: Callable[[Sink], int],
        *,
        priority: int | None = None,
        patience_s: float | None = None,
    ) -> None:
        self._turn = turn
        self._priority = priority
        self._patience_s = patience_s
        self._records: deque[bytes] = deque()
        self._wake = threading.Event()
        self._ended = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Take the first turn now."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next turn as soon as the one that may be going on is over."""
        self._wake.set()

    def drain(self, journal: Sink) -> None:
        """
        Move what has been read into the journal.

        Raises:
            Exception: the one that ended the thread.
        """
        fault = self._fault
        while self._records:
            journal.append(self._records.popleft())
        if fault is not None:
            raise fault

    def end(self, journal: Sink) -> None:
        """
        Take no more turns, and drain.

        Raises:
            TimeoutError: the last turn, which had to be waited for, is not over.
            Exception: as of `drain`.
        """
        self._ended = True
        self._wake.set()
        self._thread.join(self._patience_s or 0.0)
        self.drain(journal)
        if self._patience_s is not None and self._thread.is_alive():
            raise TimeoutError(f"a read had not returned {self._patience_s:g} s after the end")

    def _run(self) -> None:
        if self._priority is not None:
            be_on_time(self._priority)
        try:
            while True:
                # First, so that whoever wakes it during the turn is not forgotten.
                self._wake.clear()
                if self._ended:
                    return
                due_ns = self._turn(self._records)
                self._wake.wait(max(due_ns - time.perf_counter_ns(), 0) / 1e9)
        except Exception as error:  # noqa: BLE001 - the loop raises it again
            self._fault = error


def be_on_time(priority: int) -> bool:
    """
    Put the calling thread, for short and rare work, into the round-robin class.

    Root only may, and not every sandbox's kernel knows it; threads and processes do not inherit it.

    Returns:
        Whether it is in that class.
    """
    try:
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError:
        return False
    return True
