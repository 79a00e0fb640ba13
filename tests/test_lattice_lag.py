"""The counter's lag by the average power: found where the load changes, not made up elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.joules.counter import stretches
from harness.joules.lag import NONE, estimate
from harness.timeline import Channel, PowerTrace, Window

S = 1_000_000_000
COUNTER = Channel(
    name="c",
    quantity="energy",
    boundary="gpu",
    device="0",
    power_kind="emulated",
    method="test",
    sense="counter",
)
AVERAGE = dataclasses.replace(COUNTER, name="a", quantity="power", sense="average")
WINDOW = Window(name="w", start_ns=5 * S, end_ns=15 * S)


def energy_j(t_s, kind):
    """Joules of a steady load, of a ramp, of a square wave; negative instants are fine."""
    if kind == "steady":
        return 300.0 * t_s
    if kind == "ramp":
        return 100 * t_s + 10 * t_s**2
    whole, part = np.divmod(t_s, 2.0)
    return 750.0 * whole + 680.0 * np.minimum(part, 1) + 70.0 * np.maximum(part - 1, 0)


def trace(channel, t_s, values):
    t_ns = np.round(t_s * S).astype(np.int64)
    return PowerTrace(channel, t_ns, t_ns + 1000, values, np.zeros(len(t_ns), np.uint16))


def readings(kind, lag_s, gain=1.0):
    rounds = np.arange(20 * 20)
    t = (rounds + (rounds * 0.618034) % 1.0) / 20
    counter = trace(COUNTER, t, 1e4 + energy_j(np.floor(t * 10) / 10 - lag_s, kind))
    t = np.arange(0, 20, 0.02)
    end = np.floor((t + 0.03) * 10) / 10 - 0.03
    watts = gain * (energy_j(end, kind) - energy_j(end - 1.0, kind))
    return counter, trace(AVERAGE, t, watts)


@pytest.mark.parametrize("lag_s", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("gain", [0.95, 1.0, 1.05])
def test_a_lag_is_found_within_its_error_whatever_the_gain(lag_s, gain):
    counter, average = readings("square", lag_s, gain)
    found = estimate(stretches(counter)[0], average, WINDOW)
    assert found.lag_s == pytest.approx(lag_s, abs=0.015)
    assert abs(found.lag_s - lag_s) < 3 * found.sigma_s


@pytest.mark.parametrize("kind", ["steady", "ramp", "square"])
def test_no_lag_is_made_up(kind):
    counter, average = readings(kind, 0.0)
    assert estimate(stretches(counter)[0], average, WINDOW) == NONE


def test_a_steady_load_shows_no_lag_and_needs_none():
    counter, average = readings("steady", 0.1)
    assert estimate(stretches(counter)[0], average, WINDOW) == NONE


def test_without_a_second_opinion_there_is_none():
    counter, _ = readings("square", 0.1)
    assert estimate(stretches(counter)[0], None, WINDOW) == NONE
