"""The emulated worlds and the timelines of windows that the meter benchmark is run on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.emulator import make, waveform
from harness.emulator.world import EmulatedGpu, Fault, World

if TYPE_CHECKING:
    from pathlib import Path

PHASES: Final = 3
"""GPUs a waveform, each with sensors and waveform at a phase of its own."""
MARK_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What one timeline holds.

    Args:
        marks_s: the edges.
        windows: (cell, first edge, last edge).
        zero_ns: CLOCK_MONOTONIC of edge time 0; None: 2 s after the meter is ready.
    """

    marks_s: tuple[float, ...]
    windows: tuple[tuple[str, int, int], ...]
    zero_ns: int | None = None

    def write(self, path: Path, *, gpus: int) -> None:
        """Write it for the worker processes."""
        data = {"gpus": gpus, "marks_s": self.marks_s, "windows": self.windows}
        data |= {"zero_ns": self.zero_ns}
        path.write_text(json.dumps(data), encoding="utf-8")


def plan(*, trials: int, lengths_s: tuple[float, ...], seed: int) -> Plan:
    """
    Lay windows of every length into one timeline, overlapping each other.

    The edges come every 0.5 s plus up to 0.1 s, so that no window is a whole
    number of ticks and no edge has a fixed place between two ticks; a window
    called 5 s is thus 4.9 to 5.1 s long.
    """
    random = np.random.default_rng(seed)
    wanted = -(-trials // PHASES)
    spans = [round(length_s / MARK_S) for length_s in lengths_s]
    count = max(spans) + wanted + 1
    marks_s = [i * MARK_S + float(random.uniform(0, 0.1)) for i in range(count)]
    windows: list[tuple[str, int, int]] = []
    for length_s, span in zip(lengths_s, spans, strict=True):
        starts = random.choice(count - span, size=min(wanted, count - span), replace=False)
        windows += [(f"{length_s:g}", int(i), int(i) + span) for i in sorted(starts)]
    return Plan(marks_s=tuple(marks_s), windows=tuple(windows))


def shapes(random: np.random.Generator) -> dict[str, waveform.Waveform]:
    """One of each waveform, at a random phase."""
    return {
        "constant": waveform.constant(power_w=680.0),
        "square 2 s": waveform.square(
            low_w=70, high_w=680, period_s=2.0, phase_s=float(random.uniform(0, 2))
        ),
        "square 0.1 s, in phase": waveform.square(low_w=70, high_w=680, period_s=0.1),
        "ramp": waveform.ramp(
            low_w=70, high_w=680, period_s=8.0, phase_s=float(random.uniform(0, 8))
        ),
        "decode-like": waveform.decode(
            seed=int(random.integers(1000)), phase_s=float(random.uniform(0, 60))
        ),
    }


def accuracy_world(cells: list[str], *, seed: int, jitter_s: float) -> tuple[World, list[str]]:
    """Each chosen waveform on PHASES GPUs; the second value names the waveform of each GPU."""
    random = np.random.default_rng(seed)
    waves: list[waveform.Waveform] = []
    names: list[str] = []
    for _ in range(PHASES):
        made = shapes(random)
        names += cells
        waves += [made[cell] for cell in cells]
    world = make.with_sensors(make.make_world(waves, seed=seed), noise_w=1.0, jitter_s=jitter_s)
    gpus = [
        _in_phase(gpu) if name.endswith("in phase") else gpu
        for gpu, name in zip(world.gpus, names, strict=True)
    ]
    return dataclasses.replace(world, gpus=tuple(gpus)), names


def _in_phase(gpu: EmulatedGpu) -> EmulatedGpu:
    """Turn the 0.1 s square so that each 25 ms sample of field 186 sees only its low half."""
    phase_s = (0.095 - gpu.instant.phase_s) % 0.1
    wave = waveform.square(low_w=70, high_w=680, period_s=0.1, phase_s=phase_s)
    return dataclasses.replace(gpu, waveform=wave)


def fault_world(*, seed: int, reset_s: float, lost_s: float) -> World:
    """GPU 0's counter is reset at *reset_s* after the origin, GPU 1 is lost at *lost_s*."""
    waves = [waveform.constant(power_w=500.0)] * 2
    world = make.with_sensors(make.make_world(waves, seed=seed), noise_w=1.0)
    faults = (
        Fault(kind="reset", gpu=0, start_s=reset_s),
        Fault(kind="lost", gpu=1, start_s=lost_s),
    )
    return dataclasses.replace(world, faults=faults)
