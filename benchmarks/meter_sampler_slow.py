"""
What joulemark's sampler costs where every read of an energy counter takes milliseconds.

    python benchmarks/meter_sampler_slow.py [--gpus 1,8] [--read-ms 3.3] [--seconds 30] [--sleep]

Emulated GPUs whose counters spin for as long as the H100's were seen to take, power at 50 us a
call. Windows of 5 s, one announced and four found afterwards, are held against the truth. Run
it with PYTHONPATH at another version to compare the two.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.emulator import build, follow, make, waveform
from harness.emulator.model import SensorModel
from harness.integrate import traces, window_energies
from harness.journal import read_journal
from harness.sampler import Sampler
from harness.sampler_audit import SamplerAudit
from harness.timeline import POWER_DTYPE, Window

if TYPE_CHECKING:
    from harness.emulator.world import World

POWER_S: Final = 50e-6
SETTLED_S: Final = 12.0
WINDOW_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One run: the audit, CPU as a share of a core at first and later, and windows."""

    audit: SamplerAudit
    first_cpu: float
    later_cpu: float
    later_hz: float
    later_error_ms: float
    halves: list[float]
    errors: list[float]
    held: int


def run(gpus: int, read_s: float, lasts_s: float, *, spin: bool) -> Found:
    """Sample emulated GPUs that decode, in step, and meter windows of it."""
    load = waveform.decode(seed=3)
    world = make.make_world([load], gpus=gpus, seed=1)
    world = dataclasses.replace(world, power_latency_s=POWER_S, energy_latency_s=read_s, spin=spin)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ |= build.environment(world.write(folder / "world.txt"), library=build.build())
        sampler = Sampler(folder / "j", [("nvml", {})])
        sampler.start()
        begun_s = time.perf_counter()
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ours = [int(pid) for pid in children]
        time.sleep(SETTLED_S)
        first_s = sum(map(follow.cpu_time_s, ours))
        settled_ns = time.perf_counter_ns()
        first_cpu = first_s / (settled_ns / 1e9 - begun_s)
        time.sleep(lasts_s - WINDOW_S)
        later_s = sum(map(follow.cpu_time_s, ours)) - first_s
        quiet_ns = time.perf_counter_ns()
        start_ns = sampler.mark()
        time.sleep(WINDOW_S)
        end_ns = sampler.mark()
        time.sleep(1.0)
        audit = sampler.stop()
        header, records, _ = read_journal(folder / "j", POWER_DTYPE)
    all_traces = traces(header, records)
    lasted_s = (quiet_ns - settled_ns) / 1e9
    counters = [t for t in all_traces if t.channel.quantity == "energy"]
    rates = [np.sum((t.t_before_ns > settled_ns) & (t.t_before_ns < quiet_ns)) for t in counters]
    power = next(t for t in all_traces if t.channel.sense == "instant").t_before_ns
    steps_ms = np.diff(power[(power > settled_ns) & (power < quiet_ns)]) / 1e6
    windows = [Window(name="a", start_ns=start_ns, end_ns=end_ns, planned=True)]
    for k in range(4):
        at_ns = settled_ns + int((quiet_ns - settled_ns - WINDOW_S * 1e9) * k / 3)
        windows.append(Window(name=f"f{k}", start_ns=at_ns, end_ns=at_ns + int(WINDOW_S * 1e9)))
    halves, errors, held = [], [], 0
    for window in windows:
        energy = window_energies(all_traces, window)[0]
        truth_j = true_j(world, energy.window)
        halves.append((energy.high_j - energy.low_j) / 2 / truth_j)
        errors.append(energy.energy_j / truth_j - 1)
        held += energy.low_j <= truth_j <= energy.high_j
    return Found(
        audit=audit,
        first_cpu=first_cpu,
        later_cpu=later_s / lasted_s,
        later_hz=float(np.mean(rates)) / lasted_s,
        later_error_ms=float(np.percentile(np.abs(steps_ms - 1e3 / (audit.power_hz or 1)), 99)),
        halves=halves,
        errors=errors,
        held=held,
    )


def true_j(world: World, window: Window) -> float:
    """Joules truly drawn by all GPUs."""
    return sum(
        SensorModel(world, k).true_energy_j(window.start_ns, window.end_ns)
        for k in range(len(world.gpus))
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", default="1,8")
    parser.add_argument("--read-ms", type=float, default=3.3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--sleep", action="store_true", help="reads sleep instead of spinning")
    parser.add_argument("--name", default="")
    options = parser.parse_args()
    for gpus in map(int, options.gpus.split(",")):
        load = os.getloadavg()[0]
        one = run(gpus, options.read_ms / 1e3, options.seconds, spin=not options.sleep)
        aimed = getattr(one.audit, "aimed", {})
        print(
            f"| {gpus} | {options.name} | {one.later_hz:.1f} | {one.later_cpu:.1%}"
            f" | {one.first_cpu:.1%} | {one.later_error_ms:.2f} | {one.audit.missed}"
            f" | {one.halves[0]:.3%} | {np.median(one.halves[1:]):.3%}"
            f" | {max(np.abs(one.errors)):.3%} | {one.held}/{len(one.halves)} | {load:.1f} |"
            f" {[round(v['aimed_ratio'], 2) for v in aimed.values()]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
