"""Makes worlds: the sensors of a board, phases drawn from a seed, what all GPUs share."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import ConfigError

from .presets import preset
from .world import Counter, EmulatedGpu, Sampled, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .waveform import Waveform


def make_gpu(
    waveform: Waveform, *, arch: str = "h100", seed: int = 0, index: int = 0
) -> EmulatedGpu:
    """
    Make a GPU with the sensors of *arch*, each at a phase of its own drawn from *seed*.

    Change the rest with `dataclasses.replace`.
    """
    board = preset(arch)
    random = np.random.default_rng([seed, index])
    period_s = board.instant_period_s
    phases_s = [float(phase) for phase in random.uniform(0.0, [0.1, period_s, 0.1])]
    return EmulatedGpu(
        board=board,
        device_uuid=f"GPU-{uuid.UUID(bytes=random.bytes(16), version=4)}",
        waveform=waveform,
        counter=Counter(phase_s=phases_s[0]),
        instant=Sampled(window_s=board.instant_window_s, period_s=period_s, phase_s=phases_s[1]),
        average=Sampled(window_s=board.average_window_s, period_s=0.1, phase_s=phases_s[2]),
        seed=int(random.integers(1 << 62)),
    )


def make_world(
    waveforms: Sequence[Waveform],
    *,
    gpus: int | None = None,
    arch: str = "h100",
    seed: int = 0,
    origin_ns: int | None = None,
) -> World:
    """
    Make a world that begins now.

    Args:
        waveforms: one a GPU; the last serves all the GPUs that are left.
        gpus: how many; None: as many as waveforms.
        arch: the board, see `presets`.
        seed: of the UUIDs, the sensors' phases, noise and jitter.
        origin_ns: CLOCK_MONOTONIC; None: now.
    """
    count = len(waveforms) if gpus is None else gpus
    chosen = [waveforms[min(i, len(waveforms) - 1)] for i in range(count)]
    made = [make_gpu(w, arch=arch, seed=seed, index=i) for i, w in enumerate(chosen)]
    return World(
        gpus=tuple(made), origin_ns=time.perf_counter_ns() if origin_ns is None else origin_ns
    )


def with_sensors(
    world: World,
    *,
    tick_s: float | None = None,
    lag_s: float | None = None,
    jitter_s: float | None = None,
    quantum_j: float | None = None,
    gain: float | None = None,
    noise_w: float | None = None,
) -> World:
    """Return *world* with the given properties of the sensors on all its GPUs."""
    changes = {"tick_s": tick_s, "lag_s": lag_s, "jitter_s": jitter_s, "quantum_j": quantum_j}
    wanted = {key: value for key, value in changes.items() if value is not None}
    gpus = []
    for gpu in world.gpus:
        counter = replace(gpu.counter, **wanted)
        if not (
            counter.tick_s > 0
            and counter.quantum_j > 0
            and 0 <= counter.jitter_s < counter.tick_s / 2
            and math.isfinite(counter.lag_s)
        ):
            raise ConfigError(
                f"no counter has a tick of {counter.tick_s} s, a jitter of {counter.jitter_s} s "
                f"and a quantum of {counter.quantum_j} J",
                remedy="keep tick and quantum above 0 and the jitter below half a tick",
            )
        gains = gpu.counter_gain if gain is None else gain, gpu.power_gain if gain is None else gain
        gpus.append(
            replace(
                gpu,
                counter=counter,
                counter_gain=gains[0],
                power_gain=gains[1],
                noise_w=gpu.noise_w if noise_w is None else noise_w,
            )
        )
    return replace(world, gpus=tuple(gpus))
