"""On power made of known joules a token and watts of idling, the split finds them again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.decompose import fit, split
from harness.timeline import Channel, PowerTrace, Window
from harness.tokens import TokenTimes

A, B, C = 0.05, 0.4, 120.0
STEP_S, TTFT_S, ITL_S, TICK_S = 0.001, 0.12, 0.02, 0.1
LOAD_S, IDLE_S = 150.0, 15.0


def made_up_run(seed: int, *, noise_w: float = 6.0, counter: bool = True):
    """
    An idle stretch, then Poisson arrivals as on the mock engine: first token, then one each 20 ms.

    Prefill draws A joules a token from sent to first token, each output token B
    joules over the step before it, idling C watts, the sensor some noise.
    """
    draw = np.random.default_rng(seed)
    steps = int((IDLE_S + LOAD_S + 5) / STEP_S)
    power = np.full(steps, C) + np.repeat(draw.normal(0, noise_w, steps // 100 + 1), 100)[:steps]
    gaps = draw.exponential(1 / 1.5, size=400)
    sent = IDLE_S + np.cumsum(gaps)
    sent = sent[sent < IDLE_S + LOAD_S - 3]
    isl = draw.integers(50, 1500, len(sent))
    osl = draw.integers(10, 120, len(sent))
    times, rows = [], []
    for start, inputs, outputs in zip(sent, isl, osl, strict=True):
        first = start + TTFT_S * draw.uniform(0.8, 1.2)
        power[int(start / STEP_S) : int(first / STEP_S)] += A * inputs / (first - start)
        arrivals = first + ITL_S * np.arange(outputs)
        arrivals = arrivals[arrivals < IDLE_S + LOAD_S + 4]
        for at in arrivals:
            power[int((at - ITL_S) / STEP_S) : int(at / STEP_S)] += B / ITL_S
        times.append(arrivals)
        last = int(arrivals[-1] * 1e9)
        rows.append((int(start * 1e9), int(first * 1e9), last, inputs, 0, len(arrivals)))
    t_ns = np.sort(np.concatenate(times) * 1e9).astype(np.int64)
    columns = ["t_sent_ns", "t_first_ns", "t_last_ns"]
    columns += ["isl_tokens", "cached_tokens", "osl_tokens"]
    requests = pd.DataFrame(rows, columns=columns).astype("Int64")
    empty = np.zeros(0, np.int64)
    tokens = TokenTimes(
        t_ns=t_ns, tokens=np.ones(len(t_ns)), input_t_ns=empty, input_tokens=empty, findings=()
    )
    return sensor(power, counter=counter), windows(), tokens, requests


def windows() -> list[Window]:
    edges = [0.5, IDLE_S, IDLE_S + LOAD_S]
    return [
        Window(name=name, start_ns=int(start * 1e9), end_ns=int(end * 1e9))
        for name, start, end in zip(("idle", "steady"), edges, edges[1:], strict=False)
    ]


def sensor(power: np.ndarray, *, counter: bool) -> PowerTrace:
    """Read each 50 ms: a counter of millijoules, or the mean of the last 100 ms."""
    energy = np.concatenate([[0.0], np.cumsum(power) * STEP_S])
    reads = np.arange(0.013, len(power) * STEP_S - 0.2, 0.05)
    ticks = np.floor(reads / TICK_S) * TICK_S
    at = np.round(ticks / STEP_S).astype(int)
    before = np.maximum(at - round(TICK_S / STEP_S), 0)
    value = np.round(energy[at], 3) if counter else (energy[at] - energy[before]) / TICK_S
    stamps = (reads * 1e9).astype(np.int64)
    channel = Channel(
        name="made-up", quantity="energy" if counter else "power", boundary="gpu", device="x",
        power_kind="emulated", method="made up",
    )  # fmt: skip
    return PowerTrace(channel, stamps, stamps + 1000, value, np.zeros(len(reads), np.uint16))


def test_a_b_and_c_are_found_within_3_percent_and_their_intervals_hold_them():
    """On 100 seeds; the counts are printed when it fails."""
    close = dict.fromkeys("abc", 0)
    covered = dict.fromkeys("abc", 0)
    for seed in range(100):
        found = split(*made_up_run(seed))
        assert found is not None
        for name, truth, estimate in (
            ("a", A, found.prefill_j_per_token),
            ("b", B, found.decode_j_per_token),
            ("c", C, found.idle_w),
        ):
            close[name] += abs(estimate.value / truth - 1) < 0.03
            covered[name] += estimate.low <= truth <= estimate.high
    assert min(close.values()) == 100, (close, covered)
    assert min(covered.values()) >= 90, (close, covered)


def test_a_sensor_that_lags_is_found_out():
    """A mean over the last 100 ms, held for 100 ms, comes 0.1 s late on average."""
    found = split(*made_up_run(1, counter=False))
    assert found is not None
    assert found.lag_s == pytest.approx(0.1, abs=0.051)
    assert found.decode_j_per_token.value == pytest.approx(B, rel=0.03)


def test_cached_input_costs_nothing():
    trace, both, tokens, requests = made_up_run(2)
    requests["isl_tokens"] = requests["isl_tokens"] + 5000
    requests["cached_tokens"] = 5000
    found = split(trace, both, tokens, requests.astype("Int64"))
    assert found is not None
    assert found.prefill_j_per_token.value == pytest.approx(A, rel=0.03)


def test_phases_that_move_together_are_said_not_to_be_told_apart():
    draw = np.random.default_rng(3)
    rate = draw.uniform(100, 200, 200)
    power = 100 + 0.1 * rate + 0.4 * 3 * rate + draw.normal(0, 1, 200)
    found = fit(power, rate, 3 * rate + draw.normal(0, 0.5, 200))
    assert found is not None
    assert "split_not_told_apart" in {finding.code for finding in found.findings}
    width = found.prefill_j_per_token.high - found.prefill_j_per_token.low
    assert width > 0.1


def test_power_that_follows_something_else_is_a_poor_fit():
    draw = np.random.default_rng(4)
    found = fit(draw.normal(300, 50, 100), draw.uniform(0, 9, 100), draw.uniform(0, 9, 100))
    assert found is not None
    assert found.r2_ratio < 0.2
    assert "split_poor_fit" in {finding.code for finding in found.findings}


def test_too_few_bins_give_no_split():
    ones = np.ones(10)
    assert fit(np.arange(10.0), ones, ones) is None
    assert fit(np.full(50, 300.0), np.arange(50.0), np.ones(50)) is None


@given(
    st.floats(0, 2), st.floats(0, 2), st.floats(1, 500), st.integers(0, 2**31),
)  # fmt: skip
def test_without_noise_the_coefficients_are_exact_and_never_negative(a, b, c, seed):
    draw = np.random.default_rng(seed)
    prefill, decode = draw.uniform(0, 1000, 60), draw.uniform(0, 1000, 60)
    power = a * prefill + b * decode + c
    found = fit(power, prefill, decode)
    if found is None:
        assert np.ptp(power) == 0
        return
    for truth, estimate in ((a, found.prefill_j_per_token), (b, found.decode_j_per_token),
                            (c, found.idle_w)):  # fmt: skip
        assert estimate.value == pytest.approx(truth, abs=1e-6 * (1 + c))
        assert 0 <= estimate.low <= estimate.value <= estimate.high
