"""Step `polls`: the counter read back to back under a square load, faster than a sampler may."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pynvml

from harness.power.nvml import kind_of
from harness.timeline import Channel, PowerKind, PowerTrace

from .arithmetic import Step, changes, counter_delays_s, regular
from .loads import Worker
from .recording import read_json, write_json

ON_S, OFF_S = 0.53, 0.53
"""No multiple of a tick: every step falls at another phase."""
_PAUSE_S = 0.001
"""Between two reads: thousands a second are said to do harm."""


def record(folder: Path, worker: Worker, seconds: float) -> None:
    """Leave `polls.npz`: `rows` of start and end (ns of CLOCK_MONOTONIC) and reading (mJ)."""
    pynvml.nvmlInit()
    rows: list[tuple[int, int, int]] = []
    ended = threading.Event()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        kind = kind_of(pynvml.nvmlSystemGetDriverVersion())

        def read() -> None:
            while not ended.is_set():
                before_ns = time.perf_counter_ns()
                value = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
                rows.append((before_ns, time.perf_counter_ns(), value))
                time.sleep(_PAUSE_S)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            worker.hold("idle", OFF_S)
            load = worker.square("compute", on_s=ON_S, off_s=OFF_S, seconds=seconds)
            worker.hold("idle", OFF_S / 2)
        finally:
            ended.set()
            thread.join()
    finally:
        pynvml.nvmlShutdown()
    np.savez_compressed(folder / "polls.npz", rows=np.array(rows, dtype=np.int64))
    write_json(folder / "polls.json", {"load": load, "power_kind": kind})


def trace(path: Path, kind: PowerKind) -> PowerTrace:
    """The readings of an archive with `rows`, as a channel in joules."""
    channel = Channel(
        name="nvml:0:counter",
        quantity="energy",
        boundary="gpu",
        device="0",
        power_kind=kind,
        method="NVML total energy consumption, read back to back",
        sense="counter",
    )
    with np.load(path) as found:
        before_ns, after_ns, millijoules = found["rows"].T
    status = np.zeros(len(before_ns), np.uint16)
    return PowerTrace(channel, before_ns, after_ns, millijoules / 1e3, status)


def compute(folder: Path) -> dict[str, object]:
    """Lattice, calls and lag; empty if the step was not recorded."""
    step = read_json(folder / "polls.json")
    if not step:
        return {}
    counter = trace(folder / "polls.npz", step["power_kind"])
    found = changes(counter)
    ticks = regular(found)
    took_us = (counter.t_after_ns - counter.t_before_ns) / 1e3
    delays = {
        side: counter_delays_s(counter, steps(step["load"]["pulses"], rising=rising))
        for side, rising in (("rise", True), ("fall", False))
    }
    return {
        "reads": len(took_us),
        "call_us": [float(v) for v in np.percentile(took_us, (50, 99, 100))],
        "ticks": len(found.value),
        "period_ms": None if ticks is None else ticks.period_ms,
        "room_ms": None if ticks is None else ticks.room_ms,
        "median_delay_s": {k: float(np.median(v)) for k, v in delays.items() if v},
    }


def steps(pulses: list[list[int]], *, rising: bool) -> list[Step]:
    """The rises or the falls of a square load, without its first and last pulse."""
    side = 0 if rising else 1
    held = {"held_before_s": OFF_S, "held_after_s": ON_S}
    return [Step(t_ns=int(pulse[side]), rising=rising, **held) for pulse in pulses[1:-1]]
