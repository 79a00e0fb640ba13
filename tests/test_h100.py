"""What one afternoon's readings of real H100s say, computed again from the committed files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import polls
from benchmarks.gpu.arithmetic import changes, counter_delays_s, regular
from benchmarks.gpu.engine_results import conservation
from benchmarks.gpu.meter_results import steps_of
from benchmarks.gpu.recording import gpu_channels, read_json, traces_of
from harness import pipeline, store
from harness.integrate import window_energies
from harness.timeline import Window

FOLDER = Path(__file__).parents[1] / "docs" / "measurements" / "2026-11-26-h100"


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("h100")
    with tarfile.open(FOLDER / "protocol.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / "gpu-work" / "meter"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("h100")
    with tarfile.open(FOLDER / "engine.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    found = folder / "gpu-work" / "engine" / "gpt-oss-120b-mxfp4" / "sweep" / "runs"
    return {path.name.rpartition("-")[2]: path for path in found.iterdir()}


@pytest.mark.parametrize("number", [1, 2])
def test_the_counter_ticks_on_one_lattice(number):
    found = changes(polls.trace(FOLDER / f"counter-polls-{number}.npz", "measured"))
    assert len(found.value) > 200
    ticks = regular(found)
    assert ticks is not None
    assert ticks.period_ms == pytest.approx(100.0, abs=0.005)
    assert ticks.room_ms > 1.5


@pytest.mark.parametrize("number", [1, 2])
def test_a_tick_holds_the_energy_up_to_its_own_instant(number):
    path = FOLDER / f"counter-polls-{number}.npz"
    with np.load(path) as found:
        pulses = found["load0"].tolist()
    for rising in (True, False):
        delays = counter_delays_s(polls.trace(path, "measured"), polls.steps(pulses, rising=rising))
        assert len(delays) >= 8
        assert abs(float(np.median(delays))) < 0.02


def test_the_protocol_finds_the_same_lag_at_its_own_rate(protocol):
    counter = gpu_channels(traces_of(protocol, "steps"))["counter"]
    delays = counter_delays_s(counter, steps_of(read_json(protocol / "steps.json")["load"]))
    assert len(delays) == 8
    assert max(map(abs, delays)) < 0.02


def test_ticks_are_placed_where_reads_are_farther_apart_than_ticks(protocol):
    # Read at 16 Hz: some reads were 101 ms apart, and once two ticks fell between two of them.
    found = [t for t in traces_of(protocol, "window_idle") if t.channel.boundary == "gpu"]
    held = read_json(protocol / "window_idle.json")["load"]
    for start_s in (2.0, 7.03, 11.37, 19.71):
        start_ns = held["start_ns"] + int(start_s * 1e9)
        window = Window(name="idle", start_ns=start_ns, end_ns=start_ns + 500_000_000)
        energy = window_energies(found, window)[0]
        assert (energy.high_j - energy.low_j) / 2 < 0.005 * energy.energy_j
        for joules in energy.cross_checks.values():
            assert joules == pytest.approx(energy.energy_j, rel=0.005)


def test_an_engine_that_stands_still_is_told_from_one_that_does_not(runs):
    # 64 streams: one run full of pauses, the other free of them in its window; and 8 streams.
    codes = {
        name: {finding.code for finding in pipeline.analyse(store.load(runs[name])).findings}
        for name in ("2d69", "aab3", "6f3b")
    }
    assert "engine_silent" in codes["2d69"]
    assert "engine_silent" not in codes["aab3"] | codes["6f3b"]


def test_idle_and_load_add_up_on_a_real_card(runs):
    assert len(runs) == 9
    for path in runs.values():
        found = conservation(store.load(path))
        assert found is not None
        assert abs(found.residual_ratio) < 0.01


def test_measured_joules_of_a_token_are_what_was_published_here(runs):
    record = pipeline.analyse(store.load(runs["aab3"]))
    assert record.power_kind == "measured"
    assert record.metrics["gpu_j_per_output_token"].value == pytest.approx(0.3051, abs=5e-5)
