"""Loads whose speed is known: the steady window trims or flags what is not level, little else."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.level import shift, start_up
from harness.timeline import EVENT_DTYPE, EventKind, Window
from harness.tokens import TokenTimes
from harness.window import steady_window

S = 10**9
LENGTH_S, SLOTS = 120.0, 16
FLAGS = {"window_trend", "window_level_shift"}


def closed_loop(seed: int, speed: Callable[[float], float]):
    """Slots that answer one request after the other, at *speed* times their normal rate."""
    draw = np.random.default_rng(seed)
    due = [(float(t), slot) for slot, t in enumerate(draw.uniform(0, 0.2, SLOTS))]
    heapq.heapify(due)
    events, rows, tokens = [], [], []
    while due:
        start, slot = heapq.heappop(due)
        if start >= LENGTH_S:
            continue
        step = 0.05 * draw.lognormal(0, 0.1)
        at = start + 0.3 / speed(start)
        for _ in range(draw.integers(60, 120)):
            tokens.append(at)
            last, at = at, at + step / speed(at)
        index = len(rows)
        events += [(int(start * S), index, EventKind.SENT), (int(last * S), index, EventKind.END)]
        rows.append((index, int(start * S), int(last * S)))
        heapq.heappush(due, (last + 0.001, slot))
    table = np.zeros(len(events), EVENT_DTYPE)
    for place, name in enumerate(("t_ns", "request", "kind")):
        table[name] = [event[place] for event in events]
    frame = pd.DataFrame(rows, columns=["request", "t_sent_ns", "t_end_ns"]).astype("Int64")
    frame["error_kind"] = pd.array([None] * len(rows), dtype="string")
    t_ns = np.sort(np.array(tokens) * S).astype(np.int64)
    none = np.zeros(0, np.int64)
    times = TokenTimes(
        t_ns=t_ns, tokens=np.ones(len(t_ns)), input_t_ns=none, input_tokens=none, findings=()
    )
    return table, frame, times


def case(seed: int) -> tuple[str, Callable[[float], float]]:
    """A kind of change, with sizes and times drawn from the seed."""
    draw = np.random.default_rng(1000 + seed)
    size, at = draw.uniform(0.2, 0.5), draw.uniform(0.2, 0.4) * LENGTH_S
    match seed % 5:
        case 0:
            return "drift", lambda t: 1 - size * t / LENGTH_S
        case 1:
            return "throttled late", lambda t: 1.0 if t < LENGTH_S - at else 1 - size
        case 2:
            return "dip", lambda t: 1 - size if at < t < at + LENGTH_S / 5 else 1.0
        case 3:
            return "slow start", lambda t: 1 - size if t < at else 1.0
        case _:
            tau = draw.uniform(5, 15)
            return "warming up", lambda t: 1 - size * math.exp(-t / tau)


def is_level(window: Window, speed: Callable[[float], float]) -> bool:
    """Whether the true speed is within 5 % of its mean for 95 % of the window."""
    times = np.linspace(window.start_ns / S, window.end_ns / S, 1000)
    speeds = np.array([speed(float(t)) for t in times])
    return bool(np.mean(np.abs(speeds / speeds.mean() - 1) > 0.05) < 0.05)


def test_loads_that_are_not_level_are_trimmed_or_flagged_in_95_of_100():
    wrong = []
    for seed in range(100):
        kind, speed = case(seed)
        found = steady_window(*closed_loop(seed, speed), min_s=30)
        assert found.window is not None
        flagged = bool(FLAGS & {finding.code for finding in found.findings})
        if not flagged and not is_level(found.window, speed):
            wrong.append((seed, kind))
    assert len(wrong) <= 5, wrong


def test_level_loads_are_left_alone_in_95_of_100():
    touched = []
    for seed in range(100):
        found = steady_window(*closed_loop(seed, lambda _: 1.0), min_s=30)
        codes = {finding.code for finding in found.findings}
        if codes:
            touched.append((seed, codes))
    assert len(touched) <= 5, touched


def test_what_is_left_of_a_slow_start_has_the_level_of_the_rest():
    found = steady_window(*closed_loop(3, lambda t: 0.6 if t < 35 else 1.0), min_s=30)
    assert found.window is not None
    assert found.window.start_ns / S == pytest.approx(40, abs=6)
    (finding,) = found.findings
    assert finding.code == "window_trimmed"
    assert "were left out" in finding.message


@given(st.floats(1, 1e6), st.integers(8, 60))
def test_a_rate_that_never_changes_is_level(rate, bins):
    assert start_up(np.full(bins, rate)) == 0
    assert shift(np.full(bins, rate)) is None


@given(arrays(np.float64, st.integers(0, 40), elements=st.floats(0, 1e6)))
def test_no_rates_break_the_tests_and_no_more_than_half_is_cut(rates):
    assert 0 <= start_up(rates) <= len(rates) // 2
    found = shift(rates)
    assert found is None or 0 <= found.first < found.last <= len(rates)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_units_do_not_matter(factor):
    draw = np.random.default_rng(1)
    rates = np.concatenate([draw.normal(60, 2, 6), draw.normal(100, 2, 18)]) * factor
    assert start_up(rates) == 6
    found = shift(np.concatenate([rates[6:], rates[:6]]))
    assert found is not None
    assert (found.first, found.last) in {(0, 18), (18, 24)}


def test_a_change_below_5_percent_is_left_alone_however_sure_it_is():
    draw = np.random.default_rng(2)
    rates = np.concatenate([draw.normal(97, 0.1, 12), draw.normal(100, 0.1, 12)])
    assert start_up(rates) == 0
    assert shift(rates) is None
