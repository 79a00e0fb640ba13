"""Power tells an engine that stood still from one that read prompts while no token came."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.record import Finding, MetricValue
from harness.silence_power import told_by_power
from harness.timeline import Channel, PowerTrace, ReadStatus, Window

S = 10**9
WINDOW = Window(name="steady", start_ns=0, end_ns=10 * S)
SILENT = np.array([[2 * S, 4 * S], [6 * S, 7 * S]])
FOUND = Finding(
    code="engine_silent",
    severity="warning",
    message="no token came in 2 stretches: the engine compiled, swapped, or read long prompts",
)
BUSY_W, IDLE_W = 500.0, 100.0


def trace(silent_w: float, *, quantity: str = "energy", status: int = ReadStatus.OK) -> PowerTrace:
    """Read each 10 ms: *silent_w* in the silences, BUSY_W else."""
    t_ns = np.arange(-S, 11 * S, S // 100)
    silent = np.zeros(len(t_ns), bool)
    for start, end in SILENT:
        silent |= (t_ns >= start) & (t_ns < end)
    watts = np.where(silent, silent_w, BUSY_W)
    value = np.concatenate([[0.0], np.cumsum(watts[:-1] / 100)]) if quantity == "energy" else watts
    channel = Channel(
        name="x", quantity=quantity, boundary="gpu", device="0", power_kind="emulated",
        sense="counter" if quantity == "energy" else "instant", method="made up",
    )  # fmt: skip
    return PowerTrace(channel, t_ns, t_ns, value, np.full(len(t_ns), status, np.uint16))


def metric(value: float) -> MetricValue:
    return MetricValue(value=value, unit="W", n=1)


def judged(power: PowerTrace, silent_w: float, *, idle_w: float | None = IDLE_W) -> Finding:
    mean_w = (7 * BUSY_W + 3 * silent_w) / 10
    metrics = {"gpu_average_w": metric(mean_w)}
    if idle_w is not None:
        metrics["gpu_loaded_idle_w"] = metric(idle_w)
    return told_by_power(FOUND, SILENT, WINDOW, [power], metrics)


@pytest.mark.parametrize("quantity", ["energy", "power"])
@pytest.mark.parametrize(
    ("silent_w", "severity", "words"),
    [(480.0, "info", "at work"), (310.0, "info", "at work"), (290.0, "warning", "stood still"),
     (120.0, "warning", "stood still")],
)  # fmt: skip
def test_nearer_to_the_idle_watts_it_stood_still(quantity, silent_w, severity, words):
    found = judged(trace(silent_w, quantity=quantity), silent_w)
    assert found.severity == severity
    assert words in found.message
    assert "(gpu, EMULATED)" in found.message
    watts = [float(said) for said in re.findall(r"([\d.]+) W", found.message)]
    assert watts == pytest.approx([silent_w, IDLE_W, BUSY_W], rel=0.02)


def test_where_power_does_not_tell_the_finding_stays_as_it_is():
    assert judged(trace(120.0), 120.0, idle_w=None) == FOUND
    assert judged(trace(120.0, status=ReadStatus.LOST), 120.0) == FOUND
    assert judged(trace(120.0), 120.0, idle_w=600.0) == FOUND
    assert told_by_power(FOUND, SILENT, WINDOW, [], {}) == FOUND
    reset = trace(120.0)
    reset.value[600:] -= 100.0
    assert judged(reset, 120.0) == FOUND


def test_readings_that_end_before_a_silence_does_do_not_tell():
    whole = trace(120.0)
    short = PowerTrace(whole.channel, *(getattr(whole, name)[:700] for name in (
        "t_before_ns", "t_after_ns", "value", "status")))  # fmt: skip
    assert judged(short, 120.0) == FOUND
