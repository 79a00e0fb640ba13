"""
What joulemark's sampler costs, and how regular it is beside a busy load loop.

    python benchmarks/meter_sampler.py [--seconds 15]

Eight emulated GPUs, 50 Hz power, 10 Hz counter. A sleeping call of 50 us costs its
caller the way into sleep and out of it; a spinning one costs all of its 50 us, as a
driver that waits for its hardware does; one that takes no time costs the arithmetic of
the sensor model alone, so that row is the sampler's own part.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.emulator import build, follow, make, waveform
from harness.sampler import Sampler
from harness.sampler_audit import SamplerAudit

GPUS: Final = 8
CALL_S: Final = 50e-6
POWER_HZ: Final = 50.0
COUNTER_HZ: Final = 10.0
LASTS_S: Final = 15.0
LIMIT_RATIO: Final = 0.02
_BURST_S: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table."""

    name: str
    call_s: float
    spin: bool = False
    busy: bool = False


CASES: Final = (
    Case(name="take no time", call_s=0.0),
    Case(name="sleep 50 us", call_s=CALL_S),
    Case(name="sleep 50 us", call_s=CALL_S, busy=True),
    Case(name="spin 50 us", call_s=CALL_S, spin=True),
)


def sample(case: Case, lasts_s: float) -> tuple[SamplerAudit, float]:
    """Run the sampler; its audit, and its CPU as a share of a core once it has started."""
    world = make.make_world([waveform.decode(seed=gpu) for gpu in range(GPUS)], seed=1)
    world = dataclasses.replace(
        world, power_latency_s=case.call_s, energy_latency_s=case.call_s, spin=case.spin
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # The sampler's process inherits ours.
        os.environ |= build.environment(world.write(folder / "world.txt"), library=build.build())
        line = "while True: pass" if case.busy else "import time; time.sleep(1e6)"
        spinner = subprocess.Popen([sys.executable, "-c", line])
        try:
            options = {"power_hz": POWER_HZ, "counter_hz": COUNTER_HZ}
            sampler = Sampler(folder / "j", [("nvml", {})], **options)
            sampler.start()
            # Once, at the start, it polls the counters for 150 ms; that is not its steady cost.
            time.sleep(_BURST_S)
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            ours = [int(pid) for pid in children if int(pid) != spinner.pid]
            used_s = -sum(map(follow.cpu_time_s, ours))
            begun_s = time.perf_counter()
            time.sleep(lasts_s)
            used_s += sum(map(follow.cpu_time_s, ours))
            lasted_s = time.perf_counter() - begun_s
            audit = sampler.stop()
        finally:
            spinner.kill()
            spinner.wait()
    return audit, used_s / lasted_s


def lines(lasts_s: float = LASTS_S) -> list[str]:
    """Markdown: a row a case, and what of it is the sampler's and what the calls'."""
    shares: dict[Case, float] = {}
    asked = (
        f"joulemark's sampler on {GPUS} emulated GPUs, {POWER_HZ:.0f} Hz power, "
        f"{COUNTER_HZ:.0f} Hz counter, {lasts_s:g} s each; load average at the start "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores:"
    )
    head = "| calls | other core | CPU, % of one core | period error p50 / p99 ms | missed "
    rows = [asked, "", head + "| longest call p50 us | rates Hz |", "|---|---|---|---|---|---|---|"]
    for case in CASES:
        audit, shares[case] = sample(case, lasts_s)
        errors = audit.period_error_ms
        regular = "unknown" if errors is None else f"{errors[0]:.3f} / {errors[1]:.3f}"
        call_us = max(p50 for p50, _ in audit.call_us.values())
        rows.append(
            f"| {case.name} | {'busy' if case.busy else 'as it was'} | {shares[case]:.2%} "
            f"| {regular} | {audit.missed} | {call_us:.0f} "
            f"| {audit.power_hz:.1f}, {audit.counter_hz:.1f} |"
        )
    own, asleep, *_ = (shares[case] for case in CASES)
    calls_per_s = GPUS * (POWER_HZ + COUNTER_HZ)
    of_calls = (
        f"Of the {asleep:.2%} with calls that sleep, {own:.2%} is the sampler's own and "
        f"{asleep - own:.2%} the sleeping of the emulated calls "
        f"({(asleep - own) / calls_per_s * 1e6:.0f} us of CPU a call, {calls_per_s:.0f} calls a "
        f"second). The aim is {LIMIT_RATIO:.0%} in all."
    )
    return [*rows, "", of_calls]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=LASTS_S, help="of each row")
    print("\n".join(lines(parser.parse_args().seconds)))
