"""Joules of a window: by hand where that can be done, and marked where something went wrong."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import CoverageError
from harness.integrate import traces, window_energies
from harness.joules.counter import stretches
from harness.joules.trapezoid import integrate_power_j
from harness.timeline import POWER_DTYPE, Channel, PowerTrace, ReadStatus, Window

S = 1_000_000_000
COUNTER = Channel(
    name="c",
    quantity="energy",
    boundary="gpu",
    device="0",
    power_kind="emulated",
    method="test",
    quantum=0.001,
    sense="counter",
)
INSTANT = dataclasses.replace(COUNTER, name="i", quantity="power", sense="instant")


def trace(channel, t_s, values, status=None):
    t_ns = np.round(np.asarray(t_s) * S).astype(np.int64)
    codes = np.zeros(len(t_ns), np.uint16) if status is None else np.asarray(status, np.uint16)
    return PowerTrace(channel, t_ns, t_ns + 20_000, np.asarray(values, np.float64), codes)


def ticking(t_s, watts, tick_s=0.1, base_j=1000.0):
    """A counter of a constant power, ticking every *tick_s*."""
    return base_j + np.floor(np.asarray(t_s) / tick_s + 1e-9) * tick_s * watts


def polled(seconds, hertz=20.0):
    rounds = np.arange(int(seconds * hertz))
    return (rounds + (rounds * 0.618034) % 1.0) / hertz


def window(start_s, end_s, **more):
    return Window(name="w", start_ns=round(start_s * S), end_ns=round(end_s * S), **more)


def test_constant_power_is_power_times_time():
    t = polled(20)
    (energy,) = window_energies([trace(COUNTER, t, ticking(t, 250.0))], window(5, 15))
    assert energy.method == "counter"
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=1e-3)
    assert energy.low_j <= 250 * energy.window.duration_s <= energy.high_j
    assert abs(energy.window.duration_s - 10) < 0.11
    assert energy.average_w == pytest.approx(250, rel=1e-3)
    assert energy.findings == ()


def test_edges_are_moved_to_ticks():
    t = polled(20)
    (energy,) = window_energies([trace(COUNTER, t, ticking(t, 250.0))], window(5.03, 15.06))
    for edge in (energy.window.start_ns, energy.window.end_ns):
        assert abs(edge / S - round(edge / S, 1)) < 0.003


def test_the_same_readings_give_the_same_interval():
    t = polled(10)
    both = [window_energies([trace(COUNTER, t, ticking(t, 99.0))], window(2, 8)) for _ in range(2)]
    assert both[0] == both[1]


@given(
    watts=st.floats(1, 1500),
    start=st.floats(1, 5),
    length=st.floats(0.4, 10),
    tick=st.floats(0.09, 0.15),
)
def test_the_interval_holds_the_truth_and_nothing_is_negative(watts, start, length, tick):
    t = polled(20)
    (energy,) = window_energies(
        [trace(COUNTER, t, ticking(t, watts, tick))], window(start, start + length)
    )
    truth = watts * energy.window.duration_s
    assert energy.energy_j > 0
    assert energy.low_j <= energy.energy_j <= energy.high_j
    # A quantum of slack: the test's counter is exact, the real one rounds.
    assert energy.low_j - 0.01 * truth <= truth <= energy.high_j + 0.01 * truth


def test_devices_are_summed_over_one_common_window():
    t = polled(20)
    second = dataclasses.replace(COUNTER, name="c2", device="1")
    (energy,) = window_energies(
        [
            trace(COUNTER, t, ticking(t, 100.0)),
            trace(second, t + 0.001, ticking(t + 0.001 + 0.04, 300.0)),
        ],
        window(5, 15),
    )
    assert energy.devices == ("0", "1")
    assert energy.energy_j == pytest.approx(400 * energy.window.duration_s, rel=2e-3)


def test_a_chassis_is_a_boundary_of_its_own():
    """What is measured at the plug contains the GPUs, so it is never added to them."""
    t = polled(20)
    chassis = dataclasses.replace(INSTANT, name="p", boundary="chassis", device="box")
    energies = window_energies(
        [trace(COUNTER, t, ticking(t, 100.0)), trace(chassis, t, np.full(len(t), 900.0))],
        window(5, 15),
    )
    by_boundary = {energy.boundary: energy for energy in energies}
    assert by_boundary["gpu"].average_w == pytest.approx(100, rel=1e-3)
    assert by_boundary["chassis"].average_w == pytest.approx(900)
    assert by_boundary["chassis"].method == "instant power"


def test_no_reading_at_all_is_refused():
    with pytest.raises(CoverageError, match="no two readings that differ"):
        window_energies([trace(COUNTER, [], [])], window(5, 15))
    with pytest.raises(CoverageError, match="no power was recorded"):
        window_energies([], window(5, 15))


def test_a_window_after_the_last_reading_is_refused():
    t = polled(4)
    with pytest.raises(CoverageError):
        window_energies([trace(COUNTER, t, ticking(t, 250.0))], window(5, 15))


def test_after_a_reset_the_joules_up_to_it_are_kept_and_the_window_is_marked():
    t = polled(20)
    values = np.where(t < 9, ticking(t, 250.0), ticking(t, 250.0) - ticking(9.0, 250.0))
    (energy,) = window_energies([trace(COUNTER, t, values)], window(5, 15))
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=2e-3)
    assert 3.7 < energy.window.duration_s < 4.05
    assert [(f.code, f.severity) for f in energy.findings] == [("counter_reset", "invalid")]


def test_after_a_loss_the_joules_up_to_it_are_kept_and_the_window_is_marked():
    t = polled(20)
    status = np.where(t < 9, ReadStatus.OK, ReadStatus.LOST)
    values = np.where(t < 9, ticking(t, 250.0), math.nan)
    (energy,) = window_energies([trace(COUNTER, t, values, status)], window(5, 15))
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=2e-3)
    assert [(f.code, f.severity) for f in energy.findings] == [("device_lost", "invalid")]


def test_a_counter_that_stands_still_is_marked():
    t = polled(20)
    (energy,) = window_energies(
        [trace(COUNTER, t, ticking(np.minimum(t, 9.0), 250.0))], window(5, 15)
    )
    assert [(f.code, f.severity) for f in energy.findings] == [("counter_stalled", "invalid")]
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=2e-3)


def test_readings_that_end_early_are_marked():
    t = polled(9)
    (energy,) = window_energies([trace(COUNTER, t, ticking(t, 250.0))], window(5, 15))
    assert [(f.code, f.severity) for f in energy.findings] == [("readings_end", "invalid")]
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=2e-3)


def test_readings_that_begin_late_are_marked():
    t = polled(20) + 7
    (energy,) = window_energies([trace(COUNTER, t, ticking(t, 250.0))], window(5, 15))
    assert [(f.code, f.severity) for f in energy.findings] == [("readings_begin_late", "invalid")]
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=2e-3)


def test_a_wrap_is_no_reset():
    t = polled(20)
    wrapping = dataclasses.replace(COUNTER, wraps_at=3000.0)
    (energy,) = window_energies(
        [trace(wrapping, t, np.mod(ticking(t, 250.0), 3000.0))], window(5, 15)
    )
    assert energy.findings == ()
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=1e-3)


def test_a_counter_that_ticks_every_half_minute_does_not_stall():
    """dcgm-exporter asks its driver every 30 s."""
    t = np.arange(0, 600, 1.0)
    (energy,) = window_energies([trace(COUNTER, t, ticking(t, 250.0, 30.0))], window(95, 500))
    assert energy.findings == ()
    assert energy.energy_j == pytest.approx(250 * energy.window.duration_s, rel=5e-3)


def test_methods_that_disagree_are_said_to():
    t = polled(20)
    (energy,) = window_energies(
        [
            trace(COUNTER, t, ticking(t, 250.0)),
            trace(INSTANT, t + 0.001, 200.0 + (np.arange(len(t)) % 2)),
        ],
        window(5, 15),
    )
    assert energy.disagreement_ratio == pytest.approx(0.2, abs=0.01)
    assert energy.cross_checks["instant power"] == pytest.approx(2005, rel=0.02)
    assert [(f.code, f.severity) for f in energy.findings] == [("methods_disagree", "warning")]


def test_parts_of_a_trace_are_cut_at_each_fault():
    t = polled(10)
    values = ticking(t, 100.0)
    values[t >= 4] -= values[t >= 4][0]
    parts = stretches(trace(COUNTER, t, values))
    assert [part.fault for part in parts] == ["reset", None]
    assert all(np.all(np.diff(part.energy_j) > 0) for part in parts)


def test_bursts_show_how_far_ticks_of_a_fast_counter_are_apart():
    """A 20 ms counter polled every 50 ms: each reading is up to 20 ms old, not 50."""
    t = np.sort(np.concatenate((polled(5), 1 + np.arange(150) / 1000)))
    (part,) = stretches(trace(COUNTER, t, ticking(t, 100.0, 0.02)))
    assert not part.each
    assert np.max(part.high_ns - part.low_ns) < 23e6


def test_the_journal_is_sorted_by_channel():
    records = np.array(
        [(10, 20, 5.0, 0, 0, b""), (11, 21, 70.0, 1, 0, b""), (30, 40, 6.0, 0, 0, b"")],
        dtype=POWER_DTYPE,
    )
    header = {"channels": [dataclasses.asdict(COUNTER), dataclasses.asdict(INSTANT)]}
    energy, power = traces(header, records)
    assert energy.channel == COUNTER
    assert energy.value.tolist() == [5.0, 6.0]
    assert power.value.tolist() == [70.0]


@given(
    watts=st.floats(0.1, 2000),
    start=st.floats(0.5, 3),
    length=st.floats(0.1, 5),
    shift=st.floats(0, 0.02),
)
def test_constant_power_integrates_exactly_wherever_the_readings_fall(watts, start, length, shift):
    t = np.arange(0, 10, 0.02) + shift
    found = integrate_power_j(
        trace(INSTANT, t, np.full(len(t), watts)), window(start, start + length)
    )
    duration_s = window(start, start + length).duration_s
    assert found.energy_j == pytest.approx(watts * duration_s, rel=1e-9)


def test_a_ramp_integrates_to_its_triangle():
    t = np.arange(0, 10, 0.02)
    found = integrate_power_j(trace(INSTANT, t, 100 * (t + 1e-5)), window(2, 6))
    assert found.energy_j == pytest.approx(100 * (36 - 4) / 2, rel=1e-6)


def test_a_mean_reading_holds_back_to_the_one_before():
    mean = dataclasses.replace(INSTANT, sense="mean")
    t = np.array([0.0, 1.0, 2.0, 3.0])
    found = integrate_power_j(
        trace(mean, t, [99.0, 10.0, 30.0, 50.0]), window(0.5, 2.5), max_gap_s=1.1
    )
    assert found.energy_j == pytest.approx(0.5 * 10 + 30 + 0.5 * 50, rel=1e-4)


def test_an_average_reading_stands_for_the_middle_of_its_second():
    average = dataclasses.replace(INSTANT, sense="average")
    t = np.arange(0, 10, 0.02)
    # A true power of 100 t averaged over the last second reads 100 (t - 0.5).
    found = integrate_power_j(trace(average, t, 100 * (t - 0.5)), window(2, 6))
    assert found.energy_j == pytest.approx(100 * (36 - 4) / 2, rel=1e-4)


def test_a_gap_is_not_bridged():
    t = np.arange(0, 10, 0.02)
    t = t[(t < 3) | (t > 4)]
    with pytest.raises(CoverageError, match="gap"):
        integrate_power_j(trace(INSTANT, t, np.full(len(t), 5.0)), window(2, 6))


def test_an_edge_without_readings_is_not_guessed():
    t = np.arange(3, 10, 0.02)
    with pytest.raises(CoverageError, match="does not cover"):
        integrate_power_j(trace(INSTANT, t, np.full(len(t), 5.0)), window(2, 6))
