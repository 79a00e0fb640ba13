"""When the mock's streams emit, on a clock and with timers of the test's own."""

from __future__ import annotations

import itertools

import pytest

from harness.mock.rhythm import Rhythm
from harness.mock.settings import MockSettings

MS = 1_000_000


class Timers:
    """Stands for a loop: fires its timers in order, each *early_ns* before it is due."""

    def __init__(self, early_ns: int) -> None:
        self.t_ns = 0
        self.early_ns = early_ns
        self._waiting = []

    def now_ns(self) -> int:
        return self.t_ns

    def call_later(self, delay_s, callback):
        timer = Timer(self.t_ns + round(delay_s * 1e9), callback)
        self._waiting.append(timer)
        return timer

    def run_until(self, end_ns: int) -> None:
        while True:
            live = [timer for timer in self._waiting if not timer.cancelled]
            if not live or min(timer.t_ns for timer in live) > end_ns:
                self.t_ns = end_ns
                return
            first = min(live, key=lambda timer: timer.t_ns)
            self._waiting.remove(first)
            self.t_ns = max(self.t_ns + 1, first.t_ns - self.early_ns)
            first.callback()


class Timer:
    def __init__(self, t_ns, callback) -> None:
        self.t_ns = t_ns
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Stream:
    def __init__(self, timers, count, *, slowness=1.0, takes_ns=0) -> None:
        self.slowness = slowness
        self.times = []
        self._timers = timers
        self._count = count
        self._takes_ns = takes_ns

    def emit(self) -> bool:
        self.times.append(self._timers.t_ns)
        self._timers.t_ns += self._takes_ns
        return len(self.times) < self._count


def play(*, count=4, streams=1, early_ns=0, starts=(0, 0, 0), takes_ns=0, slowness=1.0, **settings):
    timers = Timers(early_ns)
    rhythm = Rhythm(MockSettings(**settings), timers, timers.now_ns)
    made = []
    for start in sorted(starts[:streams]):
        timers.run_until(start)
        made.append(Stream(timers, count, takes_ns=takes_ns, slowness=slowness))
        rhythm.start(made[-1])
    timers.run_until(10_000 * MS)
    return [stream.times for stream in made]


def test_alone_a_stream_keeps_its_first_wait_and_its_gap():
    assert play(batch=False, ttft_s=0.05, itl_s=0.01) == [[t * MS for t in (50, 60, 70, 80)]]


@pytest.mark.parametrize("early_ns", [0, MS // 2, MS - 1])
def test_a_timer_that_fires_early_serves_no_tick_twice(early_ns):
    times = play(count=40, early_ns=early_ns, ttft_s=0.001, itl_s=0.005)[0]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert set(gaps) == {5 * MS}


def test_a_batch_emits_on_common_ticks_whenever_its_streams_came():
    """Ticks lie at 10, 20, 30 ms; a stream joins at the first tick after its first wait."""
    first, second, third = play(streams=3, starts=(0, 3 * MS, 14 * MS), ttft_s=0.005, itl_s=0.01)
    assert first == [t * MS for t in (10, 20, 30, 40)]
    assert second == first
    assert third == [t * MS for t in (20, 30, 40, 50)]


def test_a_late_server_slips_instead_of_bursting():
    """Each emission takes 25 ms where 10 are planned: every gap is that long, none is shorter."""
    for batch in (True, False):
        times = play(count=5, takes_ns=25 * MS, batch=batch, ttft_s=0.0, itl_s=0.01)[0]
        assert all(b - a >= 25 * MS for a, b in itertools.pairwise(times))


def test_a_slow_stream_takes_its_own_time():
    times = play(slowness=10.0, ttft_s=0.01, itl_s=0.01)[0]
    assert times == [t * MS for t in (100, 200, 300, 400)]


def test_jitter_moves_the_ticks_and_keeps_their_mean():
    times = play(count=2000, jitter_ratio=0.2, ttft_s=0.0, itl_s=0.002)[0]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(set(gaps)) > 1000
    assert sum(gaps) / len(gaps) == pytest.approx(2 * MS, rel=0.02)
