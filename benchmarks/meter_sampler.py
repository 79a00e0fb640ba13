"""Measures what joulemark's sampler costs and how regular it is beside a busy load loop."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from harness.emulator import build, follow, make, waveform
from harness.emulator.world import WORLD_VARIABLE
from harness.sampler import Sampler, SamplerAudit

GPUS: Final = 8
CALL_S: Final = 50e-6
LASTS_S: Final = 20.0


def sample(*, busy: bool) -> tuple[SamplerAudit, float]:
    """Run the sampler on 8 GPUs with 50 µs calls; its audit, and its CPU as a share of a core."""
    world = make.make_world([waveform.decode(seed=gpu) for gpu in range(GPUS)], seed=1)
    world = dataclasses.replace(world, power_latency_s=CALL_S, energy_latency_s=CALL_S)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # The sampler's process inherits ours.
        os.environ |= build.environment(world.write(folder / "world.txt"), library=build.build())
        line = "while True: pass" if busy else "import time; time.sleep(1e6)"
        spinner = subprocess.Popen([sys.executable, "-c", line])
        other = spinner.pid
        try:
            sampler = Sampler(folder / "j", [("nvml", {})], power_hz=50.0, counter_hz=10.0)
            sampler.start()
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            ours = [int(pid) for pid in children if int(pid) != other]
            used_s = -sum(map(follow.cpu_time_s, ours))
            time.sleep(LASTS_S)
            used_s += sum(map(follow.cpu_time_s, ours))
            audit = sampler.stop()
        finally:
            spinner.kill()
            spinner.wait()
    return audit, used_s / LASTS_S


def call_cpu_s(calls: int = 1000) -> float:
    """CPU seconds of one emulated call: being woken from a sleep of 50 µs is most of it."""
    world = make.make_world([waveform.constant(power_w=500)])
    world = dataclasses.replace(world, power_latency_s=CALL_S)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[WORLD_VARIABLE] = str(world.write(Path(scratch) / "world.txt"))
        library = ctypes.CDLL(str(build.build() / build.LIBRARY_NAME))
        handle, milliwatts = ctypes.c_void_p(), ctypes.c_uint()
        library.nvmlInit()
        library.nvmlDeviceGetHandleByIndex(0, ctypes.byref(handle))
        begun_s = time.process_time()
        for _ in range(calls):
            library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts))
        return (time.process_time() - begun_s) / calls


def lines() -> list[str]:
    """Markdown: one row idle, one beside a process that keeps a core busy."""
    asked = (
        f"joulemark's sampler on {GPUS} emulated GPUs, calls of {CALL_S * 1e6:.0f} µs, "
        f"50 Hz power, 10 Hz counter, {LASTS_S:.0f} s after its start:"
    )
    head = "| other core | CPU, % of one core | period error p50 / p99 ms | missed | rates Hz |"
    rows = [asked, "", head, "|---|---|---|---|---|"]
    for busy in (False, True):
        audit, cpu_ratio = sample(busy=busy)
        errors = audit.period_error_ms
        regular = "unknown" if errors is None else f"{errors[0]:.3f} / {errors[1]:.3f}"
        rows.append(
            f"| {'busy' if busy else 'as it was'} | {cpu_ratio:.2%} | {regular} | {audit.missed} "
            f"| {audit.power_hz}, {audit.counter_hz} |"
        )
    each_s = call_cpu_s()
    share = each_s * GPUS * (50 + 10)
    of_calls = (
        f"Of this the emulated calls themselves, asleep for {CALL_S * 1e6:.0f} µs each, are "
        f"{share:.2%} ({each_s * 1e6:.0f} µs of CPU a call, {GPUS * 60} calls a second)."
    )
    return [*rows, "", of_calls]


if __name__ == "__main__":
    print("\n".join(lines()))
