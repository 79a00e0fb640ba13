"""Metered joules against true ones, on simulated sensors; the full table is a benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "meter_truth.py"
TRIALS = 12


@pytest.fixture(scope="module")
def truth():
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location("meter_truth", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["meter_truth"] = module
    sys.path.insert(0, str(BENCHMARK.parent))
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARK.parent))
    del sys.modules["meter_truth"], sys.modules["meter_tables"]


def cell(truth, waveform, seconds, *, planned, sensor="ideal", gpus=1):
    found = truth.run_cell(
        waveform, truth.SENSORS[sensor], seconds, planned=planned, trials=TRIALS, gpus=gpus
    )
    assert found.refused == 0
    assert np.all(found.widths > 0)
    return found


WAVEFORMS = ["constant", "square 2 s", "square 100 ms", "ramp", "decode"]


@pytest.mark.parametrize("waveform", WAVEFORMS)
@pytest.mark.parametrize(("seconds", "limit"), [(0.5, 0.01), (5.0, 0.002)])
def test_announced_edges(truth, waveform, seconds, limit):
    """At most 1 % wrong over half a second, 0.2 % over five, whatever the load does."""
    found = cell(truth, waveform, seconds, planned=True)
    assert np.max(np.abs(found.errors)) <= limit
    assert found.covered >= (TRIALS - 1) / TRIALS


@pytest.mark.parametrize("waveform", WAVEFORMS)
@pytest.mark.parametrize(("seconds", "limit"), [(5.0, 0.005), (30.0, 0.001)])
def test_edges_found_afterwards(truth, waveform, seconds, limit):
    """At most 0.5 % wrong over five seconds, 0.1 % over thirty."""
    found = cell(truth, waveform, seconds, planned=False)
    assert np.max(np.abs(found.errors)) <= limit
    assert found.covered >= (TRIALS - 1) / TRIALS


@pytest.mark.parametrize("waveform", WAVEFORMS)
def test_half_a_second_found_afterwards_says_how_little_it_knows(truth, waveform):
    found = cell(truth, waveform, 0.5, planned=False)
    assert found.covered >= (TRIALS - 1) / TRIALS


@pytest.mark.parametrize("sensor", ["jitter 1 ms", "jitter 5 ms"])
@pytest.mark.parametrize("planned", [True, False])
def test_ticks_that_jitter_are_in_the_interval(truth, sensor, planned):
    """Or a finding says that nothing was seen of them and how much they would add."""
    found = cell(truth, "decode", 5.0, planned=planned, sensor=sensor)
    assert np.max(np.abs(found.errors)) <= 0.005
    assert found.covered >= (TRIALS - 2) / TRIALS


def test_the_width_is_in_proportion_to_the_errors(truth):
    """At most three times the middle 95 % of them, of a load that hides nothing."""
    found = cell(truth, "constant", 5.0, planned=True)
    assert truth.width_over_spread(found.errors, found.widths) <= 3


@pytest.mark.parametrize("sensor", ["lag 50 ms", "lag 100 ms"])
def test_a_lagging_counter_is_seen_by_its_average_power(truth, sensor):
    """Unseen, 50 ms of lag are 2 % of five seconds of a square wave."""
    found = cell(truth, "square 2 s", 5.0, planned=True, sensor=sensor)
    assert np.max(np.abs(found.errors)) <= 0.006
    assert found.covered >= (TRIALS - 2) / TRIALS


def test_eight_gpus_that_tick_at_different_instants(truth):
    found = cell(truth, "decode", 5.0, planned=True, gpus=8)
    assert np.max(np.abs(found.errors)) <= 0.005
    assert found.covered >= (TRIALS - 1) / TRIALS
