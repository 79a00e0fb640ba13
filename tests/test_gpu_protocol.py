"""The arithmetic of the protocol for a real card, on synthetic sensors of known properties."""

from __future__ import annotations

import gzip
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import law
from benchmarks.gpu.arithmetic import (
    Step,
    changes,
    conserved,
    counter_delays_s,
    mean_w,
    power_delays_s,
    slope_w,
    ticks,
)
from benchmarks.gpu.engine_results import adds_up, interval, prefill_row, published
from harness.clock import ManualClock
from harness.errors import PowerUnavailableError
from harness.integrate import traces, window_energies
from harness.journal import read_journal
from harness.power._recording import Recording
from harness.power.scripted import Scripted
from harness.timeline import POWER_DTYPE, Channel, PowerTrace, ReadStatus, Window

S = 1_000_000_000
LOW_W, HIGH_W = 70.0, 690.0
RECORDING = Path(__file__).parent / "recordings" / "emulated-steps.jmj.gz"


def channel(sense: str, quantity: str = "power") -> Channel:
    return Channel(
        name=f"made-up:0:{sense}",
        quantity=quantity,
        boundary="gpu",
        device="0",
        power_kind="emulated",
        method="made up",
        sense=sense,
    )


def made(sense: str, t_s: np.ndarray, value: np.ndarray, call_s: float = 1e-4) -> PowerTrace:
    before = np.rint(t_s * S).astype(np.int64)
    quantity = "energy" if sense == "counter" else "power"
    after = before + int(call_s * S)
    status = np.zeros(len(t_s), np.uint16)
    return PowerTrace(channel(sense, quantity), before, after, value, status)


def energy_j(t_s: np.ndarray, steps: list[tuple[float, float]]) -> np.ndarray:
    """Exact integral of a staircase of (from when, watts)."""
    total = np.zeros(len(t_s))
    for (start, watts), (end, _) in zip(steps, [*steps[1:], (math.inf, 0.0)], strict=True):
        total += watts * np.clip(t_s - start, 0.0, end - start)
    return total


def polled(hertz: float, seconds: float, seed: int = 3) -> np.ndarray:
    """Instants of a poller that is late by up to a millisecond."""
    grid = np.arange(0, seconds, 1 / hertz)
    return grid + np.random.default_rng(seed).uniform(0, 1e-3, len(grid))


def square(
    *, period_s: float, cycles: int, first_s: float = 2.0
) -> tuple[list[tuple[float, float]], list[Step]]:
    half = period_s / 2
    levels, steps = [(-10.0, LOW_W)], []
    for number in range(cycles):
        on = first_s + number * period_s
        levels += [(on, HIGH_W), (on + half, LOW_W)]
        steps.append(Step(t_ns=int(on * S), rising=True, held_before_s=half, held_after_s=half))
        steps.append(
            Step(t_ns=int((on + half) * S), rising=False, held_before_s=half, held_after_s=half)
        )
    return levels, steps


@pytest.mark.parametrize(("period_s", "phase_s"), [(0.1, 0.03), (0.0993, 0.0), (0.02, 0.011)])
def test_the_period_of_regular_ticks_is_found_and_called_regular(period_s, phase_s):
    t = polled(200, 12)
    tick = np.floor((t - phase_s) / period_s)
    found = ticks(made("counter", t, 300 * tick * period_s))
    assert found.period_ms == pytest.approx(period_s * 1e3, rel=1e-3)
    assert found.jitter_ms is None or found.jitter_ms < 0.6
    assert found.skipped <= 1
    assert found.resolution_ms == pytest.approx(5.1, abs=0.5)


def test_jitter_beyond_the_resolution_is_measured():
    random = np.random.default_rng(5)
    at = np.arange(1, 200) * 0.1 + random.normal(0, 0.006, 199)
    t = polled(1000, 20)
    found = ticks(made("instant", t, 100.0 + np.searchsorted(np.sort(at), t)))
    assert found.jitter_ms == pytest.approx(6.0, rel=0.15)


def test_a_tick_with_an_equal_value_is_counted_as_skipped():
    t = polled(500, 10)
    tick = np.floor(t / 0.1).astype(int)
    value = np.where(tick % 10 == 5, tick - 1, tick).astype(float)
    found = ticks(made("instant", t, value))
    assert found.skipped == pytest.approx(10, abs=1)
    assert found.period_ms == pytest.approx(100, rel=1e-3)


def test_too_few_changes_give_no_ticks():
    t = polled(100, 3)
    assert ticks(made("instant", t, np.full(len(t), 70.0))) is None


@pytest.mark.parametrize("lag_s", [0.0, 0.05, 0.2])
def test_the_lag_of_a_counter_is_found_at_every_step(lag_s):
    levels, steps = square(period_s=4.0, cycles=3)
    t = polled(200, 16)
    tick = np.floor((t - 0.037) / 0.1) * 0.1 + 0.037
    found = counter_delays_s(made("counter", t, energy_j(tick - lag_s, levels)), steps)
    assert len(found) == 6
    # A tick is placed in the middle of its bracket of about 5 ms.
    assert found == pytest.approx([lag_s] * 6, abs=0.003)


def test_the_delay_of_a_running_mean_is_half_its_length():
    levels, steps = square(period_s=4.0, cycles=2)
    t = polled(200, 12)
    tick = np.floor(t / 0.1) * 0.1
    mean = energy_j(tick, levels) - energy_j(tick - 1.0, levels)
    found = power_delays_s(made("average", t, mean), steps)
    # Half of 1 s, and the readings hold for 0.1 s: half of that more, on average over phases.
    assert found == pytest.approx([0.5 + 0.05] * 4, abs=0.055)


def test_slope_and_mean_of_a_constant_power():
    t = polled(50, 10)
    tick = np.floor(t / 0.1) * 0.1
    counter = made("counter", t, 300.0 * tick)
    assert slope_w(counter, 1 * S, 9 * S) == pytest.approx(300.0, rel=0.004)
    assert mean_w(made("instant", t, np.full(len(t), 300.0)), 1 * S, 9 * S) == pytest.approx(300)
    assert slope_w(counter, 1 * S, 1 * S + 50_000_000) is None


def test_parts_that_share_their_edges_add_up_exactly():
    # 100 J, 400 J and 100 J of 1 s each: 600 J.
    found = conserved((0.0, 3.0, 600.0), [(0.0, 1.0, 100.0), (1.0, 2.0, 400.0), (2.0, 3.0, 100.0)])
    assert found.residual_ratio == pytest.approx(0, abs=1e-12)
    assert found.between_j == 0


def test_edges_a_tick_apart_are_filled_at_the_power_beside_them():
    # A sliver of 0.1 s between 100 W and 300 W holds about 20 J: (100 + 400 - 80) / 3 s do not.
    found = conserved((0.0, 2.1, 420.0), [(0.0, 1.0, 100.0), (1.1, 2.1, 300.0)])
    assert found.between_j == pytest.approx(20.0)
    assert found.residual_ratio == pytest.approx(0, abs=1e-12)


def test_joules_that_are_lost_show():
    found = conserved((0.0, 2.0, 500.0), [(0.0, 1.0, 100.0), (1.0, 2.0, 390.0)])
    assert found.residual_ratio == pytest.approx(-0.02)
    with pytest.raises(ValueError, match="nothing to compare"):
        conserved((0.0, 1.0, 0.0), [])


def test_idle_and_load_of_a_made_up_run_add_up():
    levels = [(-10.0, LOW_W), (6.0, HIGH_W), (16.0, LOW_W)]
    t = polled(50, 20)
    tick = np.floor((t - 0.04) / 0.1) * 0.1 + 0.04
    counter = made("counter", t, energy_j(tick, levels))
    found = adds_up([counter], [2 * S, 5 * S, 8 * S, 15 * S])
    assert found.whole_j == pytest.approx(4 * LOW_W + 9 * HIGH_W, rel=0.01)
    assert abs(found.residual_ratio) < 0.01
    assert adds_up([counter], [30 * S, 31 * S, 32 * S]) is None


def test_an_interval_over_runs_is_students():
    # Mean 2, standard deviation 1, n 3: half width 4.302653 / sqrt(3).
    found = interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["n"]) == (2.0, 3)
    assert found["high"] - found["mean"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert interval([5.0])["low"] is None
    assert interval([]) is None


def test_the_nearest_published_point_is_nearest_by_ratio():
    assert published("llama-3.1-8b", 16)["max_num_seqs"] == 8
    assert published("llama-3.1-8b", 32)["max_num_seqs"] == 64
    assert published("gpt-oss-120b-mxfp4", 64)["j_per_output_token"] == 0.2676
    assert published("mock", 8) is None


# --- the verdicts ---------------------------------------------------------------------------------


def seen(results: dict, words: str) -> law.Verdict:
    return next(verdict for verdict in law.law(results) if words in verdict.claim)


def test_nothing_recorded_is_said_to_be_not_seen():
    assert {verdict.verdict for verdict in law.law({})} == {law.NOT_SEEN}


def test_a_disagreement_above_the_limit_contradicts():
    def row(ratio):
        check = {"average power": {"median_ratio": ratio, "worst_ratio": ratio}}
        return {"load": "memory", "duration_s": 5.0, "against_counter": check}

    for ratio, verdict in ((0.02, law.CONFIRMED), (-0.04, law.CONTRADICTED)):
        found = seen({"meter": {"windows": [row(0.0), row(ratio)]}}, "integrals of power")
        assert found.verdict == verdict
        assert f"{ratio:+.2%}" in found.seen


def test_a_part_time_counter_is_told_by_its_spread():
    def rows(watts):
        return [{"phase": p, "on_ratio": 0.5, "counter_w": w} for p, w in enumerate(watts)]

    steady = {"meter": {"locked": rows([380, 382, 379, 381])}}
    aliased = {"meter": {"locked": rows([120, 650, 640, 130])}}
    assert seen(steady, "integrates all").verdict == law.CONFIRMED
    assert seen(aliased, "integrates all").verdict == law.CONTRADICTED


# --- recordings -----------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path) -> Path:
    path = tmp_path / "steps.jmj"
    with gzip.open(RECORDING) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return path


def replay(path: Path, hertz: float) -> list[PowerTrace]:
    """Poll the recording as a sampler would, on a clock that moves when told to."""
    clock = ManualClock(5 * S)
    session = Recording(path, clock=clock)
    rows = {number: [] for number in range(len(session.calls))}
    for _ in range(int(session.duration_s * hertz)):
        clock.advance_s(1 / hertz)
        for number, own in rows.items():
            value, status = session.read(number)[0]
            own.append((clock.now_ns(), value, int(status)))
    found = []
    for number, channels in enumerate(session.calls):
        t_ns, value, status = (np.array(column) for column in zip(*rows[number], strict=True))
        found.append(
            PowerTrace(channels[0], t_ns, t_ns + 1000, value.astype(float), status.astype("u2"))
        )
    return found


def test_a_replayed_recording_gives_the_joules_that_were_recorded(recording):
    header, records, _ = read_journal(recording, POWER_DTYPE)
    counter = next(t for t in traces(header, records) if t.channel.quantity == "energy")
    moved = changes(counter)
    replayed = replay(recording, 97)
    offset_ns = 5 * S - int(records["t_before_ns"].min())
    start_ns, end_ns = 6 * S, 11 * S
    energy = window_energies(replayed, Window(name="w", start_ns=start_ns, end_ns=end_ns))[0]
    at = np.array([energy.window.start_ns, energy.window.end_ns]) - offset_ns
    # The counter of this recording shows energy that is 50 ms old, which joulemark finds by itself.
    lag_ns = 0.05e9
    first, last = np.interp(at + lag_ns, moved.middle_ns, moved.value)
    assert energy.energy_j == pytest.approx(last - first, rel=0.01)
    assert energy.low_j <= energy.energy_j <= energy.high_j
    assert {f.code for f in energy.findings} >= {"counter_lags"}
    assert energy.power_kind == "emulated"


def test_a_replayed_recording_has_the_ticks_and_the_lag_that_were_put_in(recording):
    replayed = {t.channel.sense: t for t in replay(recording, 200) if t.channel.boundary == "gpu"}
    found = ticks(replayed["counter"])
    assert found.period_ms == pytest.approx(100, abs=1.0)


def test_scripted_plays_a_recording_and_says_so(recording, tmp_path):
    session = Scripted(recording=str(recording)).open()
    channels = [call[0] for call in session.calls]
    assert {c.power_kind for c in channels} == {"emulated"}
    assert all("played back from steps.jmj" in c.method for c in channels)
    assert session.read(0)[0][1] == ReadStatus.OK
    with pytest.raises(PowerUnavailableError, match="cannot read"):
        Scripted(recording=str(tmp_path / "none.jmj")).open()


def test_behind_its_end_a_recording_is_stale(recording):
    clock = ManualClock()
    session = Recording(recording, clock=clock)
    clock.advance_s(session.duration_s + 1)
    value, status = session.read(0)[0]
    assert math.isnan(value)
    assert status == ReadStatus.STALE


def prefill_run(total_j: float = 0.05, **changes) -> dict:
    """1,000 input tokens a second and one output token for each 100 of them, at 700 W."""
    numbers = {
        "gpu_j_per_total_token": total_j, "gpu_average_w": 700.0, "gpu_loaded_idle_w": 140.0,
        "output_throughput_tok_per_s": 10.0, "total_throughput_tok_per_s": 1010.0,
    }  # fmt: skip
    metrics = {name: {"value": value} for name, value in numbers.items()}
    return {"concurrency": 16, "isl_tokens": 100, "metrics": metrics, **changes}


def test_prefill_alone_is_counted_a_token_of_input_and_above_idle():
    found = prefill_row([prefill_run(0.05), prefill_run(0.05), prefill_run(0.05)])
    assert found is not None
    assert (found["runs"], found["valid"]) == (3, 3)
    assert found["j_per_input_token"]["mean"] == pytest.approx(0.05 * 1.01)
    assert found["above_idle_j_per_input_token"]["mean"] == pytest.approx(0.05 * 1.01 * 0.8)
    assert found["input_tok_per_s"]["mean"] == pytest.approx(1000.0)


def test_refused_runs_of_prefill_enter_no_mean_and_none_is_none():
    found = prefill_row([prefill_run(), prefill_run(9.0, invalid=["too short"]),
                         prefill_run(metrics={})])  # fmt: skip
    assert found is not None
    assert (found["runs"], found["valid"]) == (3, 1)
    assert found["j_per_input_token"] == {
        "mean": pytest.approx(0.0505), "low": None, "high": None, "n": 1}  # fmt: skip
    assert prefill_row([]) is None
