"""The one clock: monotonic nanoseconds everywhere, and one wall-clock anchor a run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Protocol

WALL_STEP_LIMIT_S: Final = 0.001
"""A wall clock that moved by more than this against the monotonic one was set."""


class Clock(Protocol):
    """Tells the time in nanoseconds of CLOCK_MONOTONIC, comparable between processes."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary instant that all processes of this boot share."""
        ...


class MonotonicClock:
    """
    The machine's CLOCK_MONOTONIC.

    On Linux `time.perf_counter_ns` reads CLOCK_MONOTONIC, so stamps taken in the
    load loop, in the sampler's process and in a mock engine are on one scale.
    """

    def now_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.perf_counter_ns()


class ManualClock:
    """A clock that moves when told to, for tests and replays."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The instant last set."""
        return self._now_ns

    def advance_s(self, seconds: float) -> None:
        """Move forward by *seconds*; going back is refused, as on the real clock."""
        if seconds < 0:
            msg = f"a monotonic clock cannot go back by {seconds} s"
            raise ValueError(msg)
        self._now_ns += round(seconds * 1e9)


@dataclass(frozen=True, slots=True)
class WallAnchor:
    """
    One instant on both clocks, so that monotonic stamps can be shown as dates.

    Args:
        t_monotonic_ns: CLOCK_MONOTONIC, nanoseconds.
        t_wall_ns: CLOCK_REALTIME, nanoseconds since 1970-01-01 UTC.
        uncertainty_ns: how far apart the two readings can have been taken.
    """

    t_monotonic_ns: int
    t_wall_ns: int
    uncertainty_ns: int

    @classmethod
    def now(cls) -> WallAnchor:
        """Read both clocks, the wall clock between two readings of the monotonic one."""
        before_ns = time.perf_counter_ns()
        wall_ns = time.time_ns()
        after_ns = time.perf_counter_ns()
        return cls(
            t_monotonic_ns=(before_ns + after_ns) // 2,
            t_wall_ns=wall_ns,
            uncertainty_ns=(after_ns - before_ns + 1) // 2,
        )

    def wall_ns(self, t_monotonic_ns: int) -> int:
        """The wall-clock nanoseconds that belong to a monotonic stamp."""
        return self.t_wall_ns + (t_monotonic_ns - self.t_monotonic_ns)
