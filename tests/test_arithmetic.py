"""Tokens in time, latencies and windows: hand-computed cases and properties."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import store
from harness.latency import chunk_gaps_s, request_latencies, summarise
from harness.performance import throughput
from harness.timeline import EVENT_DTYPE, NOT_SAID, EventKind, RequestTrace, Window
from harness.tokens import token_times
from harness.window import run_window, steady_window

S = 10**9
COLUMNS = [item.name for item in dataclasses.fields(RequestTrace)]


def requests_table(*rows: dict) -> pd.DataFrame:
    default = dict.fromkeys(COLUMNS) | {
        "phase": "measure",
        "chunks": 1,
        "max_osl_tokens": 4,
        "reused_connection": False,
    }
    return store._request_types(pd.DataFrame([default | row for row in rows], columns=COLUMNS))


def events_table(*rows: tuple) -> np.ndarray:
    table = np.zeros(len(rows), EVENT_DTYPE)
    for place, (t_s, request, kind, tokens) in enumerate(rows):
        table[place] = (round(t_s * S), request, tokens, 1, kind, b"")
    return table


SENT, CHUNK, END = EventKind.SENT, EventKind.CHUNK, EventKind.END


def test_running_counts_place_each_token_and_usage_adds_the_withheld_rest():
    events = events_table(
        (0, 7, SENT, NOT_SAID),
        (1, 7, CHUNK, 1),
        (2, 7, CHUNK, 4),
        (3, 7, END, NOT_SAID),
    )
    rows = requests_table({"request": 7, "osl_tokens": 5, "t_first_ns": S, "isl_tokens": 11})
    times = token_times(events, rows)
    assert list(zip(times.t_ns / S, times.tokens, strict=True)) == [(1, 1), (2, 3), (3, 1)]
    assert times.output_in(Window(name="w", start_ns=0, end_ns=2 * S)) == 1
    assert times.input_in(Window(name="w", start_ns=S, end_ns=S + 1)) == 11
    assert times.findings == ()


def test_without_a_running_count_usage_is_spread_and_said_to_be():
    events = events_table((1, 0, CHUNK, NOT_SAID), (2, 0, CHUNK, NOT_SAID), (3, 0, END, NOT_SAID))
    times = token_times(events, requests_table({"request": 0, "osl_tokens": 6}))
    assert times.tokens.tolist() == [3, 3]
    assert [finding.code for finding in times.findings] == ["tokens_spread_over_chunks"]


def test_tokens_that_nobody_counted_are_missing_and_said_to_be():
    events = events_table((1, 0, CHUNK, NOT_SAID), (3, 0, END, NOT_SAID))
    times = token_times(events, requests_table({"request": 0}))
    assert len(times.tokens) == 0
    assert [finding.code for finding in times.findings] == ["tokens_not_counted"]


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=5),
    st.integers(0, 40),
)
def test_the_tokens_of_two_halves_add_up_to_all(requests, cut):
    rows, events, t = [], [], 0
    for index, steps in enumerate(requests):
        total = 0
        for step in steps:
            total, t = total + step, t + 1
            events.append((t, index, CHUNK, total))
        events.append((t, index, END, NOT_SAID))
        rows.append({"request": index, "osl_tokens": total})
    times = token_times(events_table(*events), requests_table(*rows))
    end = (t + 1) * S
    whole = times.output_in(Window(name="w", start_ns=0, end_ns=end))
    assert whole == sum(map(sum, requests))
    edge = min(max(1, cut * S // 2), end - 1)
    first = times.output_in(Window(name="a", start_ns=0, end_ns=edge))
    second = times.output_in(Window(name="b", start_ns=edge, end_ns=end))
    assert first + second == whole


def test_latencies_by_hand():
    rows = requests_table(
        {
            "request": 0,
            "t_due_ns": 0,
            "t_sent_ns": 1 * S,
            "t_first_ns": 3 * S,
            "t_end_ns": 11 * S,
            "osl_tokens": 5,
        },
        {"request": 1, "t_due_ns": 0, "t_sent_ns": 0, "t_end_ns": 9 * S, "error_kind": "cut"},
    )
    found = request_latencies(rows)
    assert found["ttft_s"].tolist() == [2]
    assert found["e2e_s"].tolist() == [10]
    assert found["tpot_s"].tolist() == [2]
    assert found["interactivity_tok_per_s"].tolist() == [0.5]
    assert found["ttft_from_due_s"].tolist() == [3]
    assert found["e2e_from_due_s"].tolist() == [11]


def test_gaps_are_within_a_request_only():
    events = events_table(
        (1, 0, CHUNK, 1), (1.5, 1, CHUNK, 1), (3, 0, CHUNK, 2), (3.25, 1, CHUNK, 2)
    )
    assert sorted(chunk_gaps_s(events).tolist()) == [1.75, 2.0]


def test_nothing_to_summarise_gives_nothing_not_zero():
    assert summarise(np.zeros(0), "s") == {}


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_statistics_lie_within_the_data_and_inside_their_intervals(values):
    array = np.array(values)
    found = summarise(array, "s")
    slack = 1e-9 * array.max()
    for value in found.values():
        assert array.min() - slack <= value.value <= array.max() + slack
        assert value.n == len(values)
        if value.low is not None and value.high is not None:
            assert value.low - slack <= value.value <= value.high + slack
            assert value.interval


def test_the_order_statistic_interval_covers_the_true_percentile_as_often_as_it_says():
    draw = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        value = summarise(draw.exponential(size=120), "s")["p90"]
        covered += value.low <= np.log(10) <= value.high
    assert covered / 400 >= 0.94


def closed_loop(slots: int, each_s: float, count: int) -> tuple[np.ndarray, pd.DataFrame]:
    """*slots* requests in flight, each taking *each_s*, *count* in all; one token each 0.1 s."""
    events, rows = [], []
    for index in range(count):
        start = (index // slots) * each_s + 0.001 * (index % slots)
        end = start + each_s - 0.0001
        events.append((start, index, SENT, NOT_SAID))
        steps = np.arange(start + 0.1, end, 0.1)
        events += [(t, index, CHUNK, place + 1) for place, t in enumerate(steps)]
        events.append((end, index, END, NOT_SAID))
        rows.append(
            {
                "request": index,
                "t_due_ns": round(start * S),
                "t_sent_ns": round(start * S),
                "t_first_ns": round((start + 0.1) * S),
                "t_end_ns": round(end * S),
                "osl_tokens": len(steps),
            }
        )
    return events_table(*sorted(events)), requests_table(*rows)


def test_the_steady_window_begins_when_all_slots_turned_over_and_ends_before_the_last_send():
    events, rows = closed_loop(slots=4, each_s=1.0, count=40)
    found = steady_window(events, rows, token_times(events, rows), min_s=5)
    assert found.findings == ()
    assert found.window is not None
    assert found.window.start_ns / S == pytest.approx(1.003, abs=1e-3)
    assert found.window.end_ns / S == pytest.approx(9.003, abs=1e-3)


def test_a_closed_loop_ends_as_many_requests_a_second_as_its_slots_turn_over():
    """Not one more: the window runs from an end to an end, and counts one of the two."""
    events, rows = closed_loop(slots=4, each_s=1.0, count=40)
    tokens = token_times(events, rows)
    window = steady_window(events, rows, tokens, min_s=5).window
    assert window is not None
    rates = throughput(window, rows.assign(error_kind=None), tokens, [])
    assert rates["request_throughput_rps"].value == pytest.approx(4.0, rel=1e-6)


def test_a_request_sent_anew_after_a_stale_connection_is_one_request():
    events, rows = closed_loop(slots=2, each_s=1.0, count=12)
    again = events[events["kind"] == SENT].copy()
    again["t_ns"] -= 10**6
    doubled = np.sort(np.concatenate([events, again]), order="t_ns")
    once = steady_window(events, rows, token_times(events, rows), min_s=1)
    twice = steady_window(doubled, rows, token_times(doubled, rows), min_s=1)
    assert once == twice


def test_a_load_that_never_turned_over_has_no_steady_window():
    events, rows = closed_loop(slots=4, each_s=1.0, count=4)
    found = steady_window(events, rows, token_times(events, rows), min_s=5)
    assert found.window is None
    assert [finding.code for finding in found.findings] == ["no_steady_window"]


def test_a_short_window_with_few_residences_is_flagged():
    events, rows = closed_loop(slots=2, each_s=2.0, count=6)
    found = steady_window(events, rows, token_times(events, rows), min_s=30)
    codes = {finding.code for finding in found.findings}
    assert codes == {"window_short", "window_few_residences"}


@pytest.mark.parametrize(("length_s", "given"), [(0.0005, False), (0.0999, False), (0.1, True)])
def test_streams_in_step_give_no_rate_between_two_batches(length_s, given):
    """Four requests that end half a millisecond before the next are sent are not 8,000 a second."""
    end_ns = round((1 + length_s) * S)
    rows = [{"request": i, "t_end_ns": S, "osl_tokens": 2, "t_first_ns": S // 2} for i in range(4)]
    requests = requests_table(*rows)
    events = events_table(
        *((1, i, CHUNK, 2) for i in range(4)), *((1, i, END, 2) for i in range(4))
    )
    findings = []
    found = throughput(
        Window(name="steady", start_ns=S, end_ns=end_ns),
        requests,
        token_times(events, requests),
        findings,
    )
    codes = [one.code for one in findings]
    if given:
        assert found["request_throughput_rps"].value == pytest.approx(40)
        assert codes == []
    else:
        assert found == {}
        assert codes == ["window_too_short_for_rates"]


def test_a_trend_in_the_token_rate_is_flagged():
    events, rows = closed_loop(slots=4, each_s=1.0, count=40)
    times = token_times(events, rows)
    faster = dataclasses.replace(times, tokens=times.tokens * (1 + times.t_ns / times.t_ns.max()))
    found = steady_window(events, rows, faster, min_s=5)
    assert "window_trend" in {finding.code for finding in found.findings}


def test_the_run_window_takes_everything():
    events, _ = closed_loop(slots=2, each_s=1.0, count=4)
    found = run_window(events)
    assert found.window is not None
    assert found.window.start_ns == events["t_ns"].min()
    assert found.window.end_ns == events["t_ns"].max() + 1


def test_nothing_sent_is_said():
    none = np.zeros(0, EVENT_DTYPE)
    assert run_window(none).findings[0].code == "nothing_sent"
    empty = requests_table()
    assert steady_window(none, empty, token_times(none, empty), min_s=1).window is None
