"""The split on made-up engines as real ones were seen: in lock-step, with pauses, hardly linear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from harness.decompose import pooled
from harness.joules.counter import stretches
from harness.joules.ticks import placed_ns
from harness.phases.bins import PLAIN_S, TICKED_S, Recording
from harness.phases.estimate import Split
from harness.silence import silences
from harness.timeline import Channel, PowerTrace, Window
from harness.tokens import TokenTimes

A, B, C = 0.015, 0.23, 126.0
ISL, OSL, STEP_S, PREFILL_S = 128, 64, 0.025, 0.13
IDLE_S, FINE_S, TICK_S = 5.0, 0.001, 0.100002


def lockstep(
    seed: int,
    *,
    streams: int = 64,
    load_s: float = 14.0,
    pauses: float = 0.35,
    a: float = A,
    cached: int = 0,
    shape: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Recording:
    """
    An idle stretch, then rounds in which all streams are sent, read and answered together.

    A round waits for its host, now and then for more than a second, at the watts of an idle
    engine; then it reads all prompts in one pulse, *a* joules a token; then it makes a token a
    stream each 25 ms, B joules each. An energy counter is read as slowly as on an H100.

    Args:
        seed: of everything.
        streams: requests at once.
        load_s: how long.
        pauses: of the rounds wait for more than a second.
        a: joules an input token.
        cached: of each prompt.
        shape: watts above idling that are drawn instead of those given; None: those.
    """
    draw = np.random.default_rng(seed)
    fine = int((IDLE_S + load_s + 3) / FINE_S)
    above = np.zeros(fine)
    t, rows, times = IDLE_S, [], []

    def add(start: float, end: float, watts: float) -> None:
        above[round(start / FINE_S) : round(end / FINE_S)] += watts

    while t < IDLE_S + load_s - 2:
        sent = t + draw.uniform(0, 0.01, streams)
        waits = draw.uniform(1.2, 1.8) if draw.random() < pauses else 0.0
        begun = t + draw.uniform(0.03, 0.12) + waits
        first = begun + PREFILL_S
        add(begun, first, a * (ISL - cached) * streams / PREFILL_S)
        made = first + STEP_S * np.arange(OSL)
        for at in made:
            add(at - STEP_S, at, B * streams / STEP_S)
        rows += [(s, first, made[-1], ISL, cached, OSL) for s in sent]
        times.append(made)
        t = made[-1] + draw.uniform(0.002, 0.02)
    power = C + (above if shape is None else shape(above))
    power += np.repeat(draw.normal(0, 8, fine // 100 + 1), 100)[:fine]
    columns = ["t_sent_ns", "t_first_ns", "t_last_ns", "isl_tokens", "cached_tokens", "osl_tokens"]
    requests = pd.DataFrame(rows, columns=columns)
    requests[columns[:3]] = (requests[columns[:3]] * 1e9).round()
    t_ns = (np.concatenate(times) * 1e9).astype(np.int64)
    empty = np.zeros(0, np.int64)
    tokens = TokenTimes(
        t_ns=t_ns, tokens=np.full(len(t_ns), float(streams)),
        input_t_ns=empty, input_tokens=empty, findings=(),
    )  # fmt: skip
    windows = [
        Window(name=name, start_ns=int(start * 1e9), end_ns=int(end * 1e9))
        for name, start, end in (
            ("idle", 0.5, IDLE_S - 0.1),
            ("load", IDLE_S - 0.1, IDLE_S + load_s),
        )
    ]
    return Recording(
        trace=counter(power, draw), windows=windows, tokens=tokens,
        requests=requests.astype("Int64"),
    )  # fmt: skip


def counter(power: np.ndarray, draw: np.random.Generator) -> PowerTrace:
    """Ticks of 100.002 ms at any phase, read each 50 to 62 ms by calls of 2 to 20 ms."""
    energy = np.concatenate([[0.0], np.cumsum(power) * FINE_S])
    fine = np.arange(len(energy)) * FINE_S
    phase = draw.uniform(0, TICK_S)
    reads = 0.15 + np.cumsum(draw.uniform(0.05, 0.062, int(fine[-1] / 0.05)))
    reads = reads[reads < fine[-1] - 0.2]
    slow = draw.random(len(reads)) < 0.05
    took = np.where(slow, draw.uniform(0.01, 0.02, len(reads)), draw.uniform(0.002, 0.004))
    ticks = np.floor((reads + took / 2 - phase) / TICK_S) * TICK_S + phase
    channel = Channel(
        name="made-up", quantity="energy", boundary="gpu", device="x",
        power_kind="emulated", method="made up", quantum=0.001,
    )  # fmt: skip
    return PowerTrace(
        channel,
        (reads * 1e9).astype(np.int64),
        ((reads + took) * 1e9).astype(np.int64),
        np.round(np.interp(ticks, fine, energy), 3),
        np.zeros(len(reads), np.uint16),
    )


def codes(found: Split) -> set[str]:
    return {finding.code for finding in found.findings}


@pytest.mark.parametrize(("repeats", "seeds"), [(3, 20), (1, 40)])
def test_an_engine_in_lockstep_with_pauses_is_split_and_the_intervals_hold(repeats, seeds):
    """Reads are 50 to 62 ms apart, prompts are read at the end of their wait, and it stalls."""
    covered, found = dict.fromkeys("abc", 0), 0
    for seed in range(seeds):
        split = pooled([lockstep(100 * seed + k) for k in range(repeats)])
        if not isinstance(split, Split):
            assert split.code == "split_too_few_bins"
            continue
        found += 1
        assert not split.contradicted, split.findings
        assert split.bin_s == TICKED_S
        assert split.decode_j_per_token.value == pytest.approx(B, rel=0.03)
        for name, truth, estimate in (
            ("a", A, split.prefill_j_per_token),
            ("b", B, split.decode_j_per_token),
            ("c", C, split.idle_w),
        ):
            covered[name] += estimate.low <= truth <= estimate.high
    assert found >= 0.9 * seeds
    assert min(covered.values()) >= 0.9 * found, (covered, found)


def test_power_that_waits_for_no_token_is_left_out_and_the_share_is_said():
    split = pooled([lockstep(1, pauses=0.5)])
    assert isinstance(split, Split)
    assert 0.1 < split.left_out_ratio < 0.8
    assert "split_silence_left_out" in codes(split)
    steady = pooled([lockstep(1, pauses=0.0)])
    assert isinstance(steady, Split)
    assert steady.left_out_ratio == 0
    assert "split_silence_left_out" not in codes(steady)


def test_an_engine_that_mostly_stands_still_is_refused_with_the_reason():
    found = pooled([lockstep(2, pauses=1.0, load_s=10.0)])
    assert not isinstance(found, Split)
    assert found.code == "split_too_few_bins"
    assert "more no token came" in found.message


def test_prompts_that_were_all_read_around_pauses_have_no_joules_rather_than_any():
    split = pooled([lockstep(2, pauses=1.0)])
    assert isinstance(split, Split)
    assert split.prefill_j_per_token is None
    assert "split_prefill_not_seen" in codes(split)
    assert split.decode_j_per_token.low <= B <= split.decode_j_per_token.high


def test_a_placed_counter_gets_no_lag_from_prompts_that_are_read_late():
    """Prefill spread over its wait comes early against its power, as a lag would."""
    for seed in range(5):
        split = pooled([lockstep(seed, pauses=0.0)])
        assert isinstance(split, Split)
        assert abs(split.lag_s) < 0.01


def test_several_concurrencies_of_a_busy_engine_at_one_power_are_said_not_to_be_one_load():
    """As seen: 8 streams draw 540 W, 64 hardly more."""

    def busy(above: np.ndarray) -> np.ndarray:
        return np.where(above > 0, 420.0, 0.0) + 0.05 * above

    split = pooled([lockstep(s, streams=n, shape=busy) for s, n in enumerate((8, 8, 64, 64))])
    assert isinstance(split, Split)
    assert split.contradicted
    assert {"split_idle_contradicted", "split_not_linear"} <= codes(split)
    assert split.idle_measured_w.value == pytest.approx(C, abs=3)
    assert split.idle_w.low > split.idle_measured_w.high


def test_one_concurrency_at_one_power_is_not_contradicted():
    """What cannot be told there is whether other rates cost as much a token; nothing else is."""

    def busy(above: np.ndarray) -> np.ndarray:
        return np.where(above > 0, 560.0, 0.0)

    split = pooled([lockstep(s, shape=busy) for s in range(3)])
    assert isinstance(split, Split)
    assert "split_idle_contradicted" not in codes(split)
    assert split.decode_j_per_token.value == pytest.approx(560 * STEP_S / 64, rel=0.03)


def test_repeats_that_cost_something_else_are_said_to_disagree():
    split = pooled([lockstep(0, pauses=0.0), lockstep(1, pauses=0.0, a=4 * A)])
    assert isinstance(split, Split)
    assert "split_runs_disagree" in codes(split)
    assert split.contradicted


def test_input_that_was_all_cached_has_no_joules_rather_than_none():
    split = pooled([lockstep(0, pauses=0.0, cached=ISL)])
    assert isinstance(split, Split)
    assert split.prefill_j_per_token is None
    assert "split_prefill_not_seen" in codes(split)
    assert split.decode_j_per_token.value == pytest.approx(B, rel=0.05)


def test_input_that_was_cached_in_part_is_said():
    split = pooled([lockstep(0, pauses=0.0, cached=ISL // 2)])
    assert isinstance(split, Split)
    (said,) = [f for f in split.findings if f.code == "split_input_cached"]
    assert said.message.startswith("50%")
    assert not split.contradicted


def test_without_a_lattice_bins_are_a_second_between_the_middles_of_readings():
    one = lockstep(3, load_s=30.0, pauses=0.0)
    trace = one.trace
    jitter = np.random.default_rng(0).uniform(0, 0.08, len(trace.value)).cumsum() * 1e9
    late = dataclasses.replace(
        trace,
        t_before_ns=trace.t_before_ns + jitter.astype(np.int64),
        t_after_ns=trace.t_after_ns + jitter.astype(np.int64),
    )
    assert [placed_ns(knots) for knots in stretches(late)] == [None]
    split = pooled([dataclasses.replace(one, trace=late)])
    assert isinstance(split, Split)
    assert split.bin_s == PLAIN_S


def test_readings_that_reach_no_window_are_said():
    one = lockstep(0)
    far = [Window(name="far", start_ns=int(1e12), end_ns=int(2e12))]
    found = pooled([dataclasses.replace(one, windows=far)])
    assert not isinstance(found, Split)
    assert found.code == "split_no_power"
    nothing = pooled([])
    assert not isinstance(nothing, Split)
    assert nothing.code == "split_no_power"


def test_ticks_are_placed_to_a_few_milliseconds_over_a_long_recording():
    one = lockstep(7, load_s=100.0)
    (knots,) = stretches(one.trace)
    placed = placed_ns(knots)
    assert placed is not None
    t_ns, doubt_ns = placed
    phase_ns = np.mod(t_ns, TICK_S * 1e9)
    around = np.exp(2j * np.pi * phase_ns / (TICK_S * 1e9))
    assert abs(around.mean()) > 0.99
    assert doubt_ns < 5e6
    assert np.ptp(knots.middle_ns - t_ns) > 20e6


def test_a_silence_is_two_or_more_waiting_for_half_a_second():
    second = 1_000_000_000
    sent = np.array([0, 0, 9]) * second
    ended = np.array([5, 6, 12]) * second
    tokens = np.array([1.0, 1.4, 3.0, 5.0, 6.0, 12.0]) * second
    found = silences(tokens.astype(np.int64), sent, ended) / second
    assert found.tolist() == [[0.0, 1.0], [1.4, 3.0], [3.0, 5.0]]
    assert len(silences(np.zeros(0, np.int64), sent[:0], ended[:0])) == 0
    alone = silences(np.zeros(0, np.int64), sent[2:], ended[2:])
    assert len(alone) == 0
