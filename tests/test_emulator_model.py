"""The emulator's waveforms and its sensor model in numpy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.emulator import live, make, reader, waveform
from harness.emulator.model import AVERAGE, MEMORY, MODULE, SensorModel
from harness.emulator.world import Fault, Throttle, World
from harness.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_S = 1_000_000_000


def _world(wave: waveform.Waveform, **sensors: float) -> World:
    world = make.make_world([wave], seed=1, origin_ns=5 * _S)
    return make.with_sensors(world, **sensors) if sensors else world


def test_a_square_has_the_energy_worked_out_by_hand() -> None:
    """2 s of 680 W, 2 s of 70 W, begun 1 s in: 3.5 s hold 1 s high, 2 s low, 0.5 s high."""
    wave = waveform.square(low_w=70, high_w=680, period_s=4, phase_s=1)
    assert float(wave.energy_j(round(3.5 * _S))) == pytest.approx(1.5 * 680 + 2 * 70, rel=1e-12)


def test_a_ramp_has_the_energy_worked_out_by_hand() -> None:
    """From 0 to 100 W in 2 s: half-way it has passed a quarter of its 100 J."""
    wave = waveform.ramp(low_w=0, high_w=100, period_s=2)
    assert wave.energy_j([_S, 2 * _S, 3 * _S]) == pytest.approx([25, 100, 125], rel=1e-12)


def test_a_trace_holds_its_last_power(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("# seconds,watts\n0,100\n1,300\n")
    wave = waveform.parse(f"trace:file={file}")
    assert float(wave.energy_j(5 * _S)) == pytest.approx(100 + 4 * 300, rel=1e-12)


@pytest.mark.parametrize(
    "spec",
    [
        "square:low_w=70,high_w=680,period_s=0.37",
        "ramp:low_w=10,high_w=650,period_s=1.3",
        "sine:low_w=5,high_w=500,period_s=0.7",
        "decode:seed=4,period_s=7",
        "constant:power_w=321",
    ],
)
@given(
    times=st.lists(st.integers(min_value=-100 * _S, max_value=10_000 * _S), min_size=3, max_size=3)
)
def test_energy_never_falls_and_adds_up(spec: str, times: list[int]) -> None:
    """Over any three instants: both parts are not negative, and are the whole together."""
    wave = waveform.parse(spec)
    first, middle, last = wave.energy_j(sorted(times))
    assert middle - first >= -1e-6
    assert last - middle >= -1e-6
    assert (middle - first) + (last - middle) == pytest.approx(last - first, abs=1e-6)


@pytest.mark.parametrize("shape", ["square", "ramp", "sine"])
@given(phase_s=st.floats(min_value=0, max_value=2), t_s=st.floats(min_value=0, max_value=50))
def test_a_phase_only_shifts(shape: str, phase_s: float, t_s: float) -> None:
    """A waveform begun *phase_s* in draws what the unshifted one draws from there on."""
    plain = waveform.parse(f"{shape}:low_w=70,high_w=680,period_s=2")
    shifted = waveform.parse(f"{shape}:low_w=70,high_w=680,period_s=2,phase_s={phase_s!r}")
    phase_ns, t_ns = round(phase_s * _S), round(t_s * _S)
    drawn_j = plain.energy_j(phase_ns + t_ns) - plain.energy_j(phase_ns)
    assert float(shifted.energy_j(t_ns)) == pytest.approx(float(drawn_j), abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("sqare:low_w=1", "choose one of: constant, square"),
        ("square:low_w=1,hi_w=2,period_s=1", "lacks a key"),
        ("constant:power_w=much", "is not key=number"),
        ("constant:power_w=-3", "negative power"),
        ("constant:power_w=nan", "no number"),
        ("square:low_w=1,high_w=2,period_s=1,duty_ratio=1", "do not follow"),
    ],
)
def test_a_wrong_waveform_is_refused_with_what_is_right(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        waveform.parse(spec)


def test_the_counter_is_the_energy_at_its_last_tick() -> None:
    """Ticks every 0.1 s from 0.03 s: at 1 s it shows the energy of 0.93 s."""
    world = _world(waveform.constant(power_w=500))
    counter = dataclasses.replace(world.gpus[0].counter, phase_s=0.03, base_j=1000.0)
    gpu = dataclasses.replace(world.gpus[0], counter=counter)
    model = SensorModel(dataclasses.replace(world, gpus=(gpu,)), 0)
    assert float(model.counter_mj(world.origin_ns + _S)) == (1000 + 500 * 0.93) * 1000
    assert int(model.last_tick_ns(world.origin_ns + _S)) == world.origin_ns + 930_000_000


def test_the_lag_shows_older_energy_and_the_gain_scales_it() -> None:
    world = _world(waveform.constant(power_w=500), lag_s=0.2, gain=1.1, quantum_j=0.001)
    plain = _world(waveform.constant(power_w=500))
    t_ns = world.origin_ns + 10 * _S
    moved_mj = SensorModel(world, 0).counter_mj([t_ns, t_ns + 3 * _S])
    assert float(np.diff(moved_mj)[0]) == pytest.approx(1.1 * 1500e3, abs=2)
    late_j = SensorModel(world, 0).counter_mj(t_ns) / 1000 - 1e6
    on_time_j = SensorModel(plain, 0).counter_mj(t_ns) / 1000 - 1e6
    assert float(on_time_j * 1.1 - late_j) == pytest.approx(1.1 * 500 * 0.2, abs=0.01)


def test_ticks_jitter_within_their_bounds_and_stay_in_order() -> None:
    world = _world(waveform.constant(power_w=500), jitter_s=0.004)
    model = SensorModel(world, 0)
    t_ns = world.origin_ns + np.arange(0, 20 * _S, 1_000_000)
    steps_ns = np.diff(np.unique(model.last_tick_ns(t_ns)))
    assert steps_ns.min() >= 92_000_000
    assert steps_ns.max() <= 108_000_000
    assert len(np.unique(steps_ns)) > 50


def test_instant_power_sees_a_quarter_of_the_time_and_average_all_of_it() -> None:
    """A square in phase with the sensor: field 186 reads 70 W, 185 the mean of 375 W."""
    world = _world(waveform.constant(power_w=0))
    sensor = world.gpus[0].instant
    phase_s = (0.095 - sensor.phase_s) % 0.1
    wave = waveform.square(low_w=70, high_w=680, period_s=0.1, phase_s=phase_s)
    gpu = dataclasses.replace(world.gpus[0], waveform=wave)
    model = SensorModel(dataclasses.replace(world, gpus=(gpu,)), 0)
    t_ns = world.origin_ns + np.arange(5 * _S, 6 * _S, 7_000_000)
    assert model.power_mw(t_ns) == pytest.approx(70e3)
    assert model.power_mw(t_ns, field=AVERAGE) == pytest.approx(375e3)


def test_noise_is_bounded_and_the_same_each_time() -> None:
    model = SensorModel(_world(waveform.constant(power_w=500), noise_w=2.0), 0)
    t_ns = 5 * _S + np.arange(10 * _S, 60 * _S, 100_000_000)
    first = model.power_mw(t_ns)
    assert np.all(np.abs(first - 500e3) <= 2001)
    assert np.std(first) > 500
    assert np.array_equal(first, model.power_mw(t_ns))


def test_scopes_relate_as_the_board_says() -> None:
    world = make.make_world([waveform.constant(power_w=400)], arch="gh200", origin_ns=0)
    model = SensorModel(world, 0)
    assert model.true_energy_j(0, 10 * _S) == pytest.approx(4000)
    assert model.true_energy_j(0, 10 * _S, scope=MODULE) == pytest.approx(4000 + 1200)
    assert model.true_energy_j(0, 10 * _S, scope=MEMORY) == pytest.approx(800)
    moved_mj = np.diff(model.counter_mj([10 * _S, 20 * _S]))
    assert float(moved_mj[0]) == pytest.approx(5200e3, abs=2)


def test_a_board_without_an_average_says_nan_not_zero() -> None:
    world = make.make_world([waveform.constant(power_w=300)], arch="a100", origin_ns=0)
    assert np.isnan(SensorModel(world, 0).power_mw(_S, field=AVERAGE))


def test_a_world_file_reads_back_as_it_was(tmp_path: Path) -> None:
    world = make.make_world(
        [waveform.decode(seed=2), waveform.live(tmp_path / "live", idle_w=55)], seed=9
    )
    world = make.with_sensors(world, jitter_s=0.002, lag_s=0.05, noise_w=1.5, gain=0.97)
    world = dataclasses.replace(
        world,
        faults=(Fault(kind="reset", gpu=0, start_s=3.0),),
        throttles=(Throttle(reasons=4, start_s=1.0, end_s=2.0),),
        processes=tmp_path / "processes",
    )
    again = reader.read(world.write(tmp_path / "world.txt"))
    assert (again.faults, again.throttles) == (world.faults, world.throttles)
    assert (again.origin_ns, again.processes) == (world.origin_ns, world.processes)
    t_ns = world.origin_ns + np.arange(0, 20 * _S, 37_000_000)
    for gpu in (0, 1):
        ours, theirs = SensorModel(world, gpu), SensorModel(again, gpu)
        assert np.array_equal(ours.energy_j(t_ns), theirs.energy_j(t_ns))
        assert np.array_equal(ours.counter_mj(t_ns), theirs.counter_mj(t_ns))
        assert np.array_equal(ours.power_mw(t_ns), theirs.power_mw(t_ns))


def test_a_file_that_is_no_world_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    with pytest.raises(ConfigError, match="is not a world file"):
        reader.read(tmp_path / "x")


def test_live_records_are_followed_and_stragglers_ignored(tmp_path: Path) -> None:
    file = tmp_path / "live"
    rows = [(5 * _S, 100.0), (7 * _S, 300.0), (6 * _S, 900.0)]
    file.write_bytes(np.array(rows, dtype=live.RECORD_DTYPE).tobytes() + b"torn")
    world = make.make_world([waveform.live(file, idle_w=50)], origin_ns=4 * _S)
    model = SensorModel(world, 0)
    assert model.true_energy_j(4 * _S, 9 * _S) == pytest.approx(50 + 2 * 100 + 2 * 300)


def test_unknown_boards_faults_and_sensors_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of: h100"):
        make.make_world([waveform.constant(power_w=1)], arch="h300")
    with pytest.raises(ConfigError, match="choose 1 to 16"):
        make.make_world([waveform.constant(power_w=1)], gpus=17)
    with pytest.raises(ConfigError, match="half a tick"):
        _world(waveform.constant(power_w=1), jitter_s=0.05)
    with pytest.raises(ConfigError, match="a fault cannot touch"):
        Fault(kind="timeout", start_s=0, touches="energie")
