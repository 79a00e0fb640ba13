"""Reads a world file back, for `joulemark emulate truth` and for tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ConfigError

from .presets import Preset
from .waveform import Waveform, live
from .world import TOUCHES, Counter, EmulatedGpu, Fault, Sampled, Throttle, World

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(path: Path) -> World:
    """
    Read what `World.write` wrote; limits and the like that no energy depends on, too.

    Raises:
        ConfigError: there is no such file, or it is not one of ours.
    """
    try:
        lines = iter(path.read_text(encoding="utf-8").splitlines())
        return _world(lines)
    except (OSError, ValueError, KeyError, IndexError, StopIteration) as error:
        raise ConfigError(
            f"{path} is not a world file of the emulator ({error!r})",
            remedy="name the file that `joulemark emulate` put into JOULEMARK_EMULATOR",
        ) from error


def _world(lines: Iterator[str]) -> World:
    if next(lines) != "joulemark-emulator 1":
        msg = "unknown first line"
        raise ValueError(msg)
    head: dict[str, str] = {}
    faults: list[Fault] = []
    throttles: list[Throttle] = []
    gpus: list[dict[str, Any]] = []
    for line in lines:
        key, _, rest = line.partition(" ")
        if key == "gpu":
            gpus.append({})
        elif key == "fault":
            faults.append(_fault(rest.split()))
        elif key == "throttle":
            gpu, reasons, start_ns, end_ns = map(int, rest.split())
            throttles.append(
                Throttle(
                    reasons=reasons, start_s=_s(start_ns), end_s=_s(end_ns), gpu=_gpu_index(gpu)
                )
            )
        elif not gpus:
            head[key] = rest
        elif key == "segments":
            gpus[-1]["waveform"] = _segments(lines, *map(int, rest.split()))
        elif key == "live":
            idle_w, _, file = rest.partition(" ")
            gpus[-1]["waveform"] = live(Path(file), idle_w=float(idle_w))
        else:
            gpus[-1][key] = rest
    power_ns, energy_ns, spin = map(int, head["latency_ns"].split())
    return World(
        gpus=tuple(_gpu(values) for values in gpus),
        origin_ns=int(head["origin_ns"]),
        power_latency_s=_s(power_ns),
        energy_latency_s=_s(energy_ns),
        spin=bool(spin),
        faults=tuple(faults),
        throttles=tuple(throttles),
        processes=Path(head["processes_file"]) if "processes_file" in head else None,
        driver_version=head["driver_version"],
    )


def _s(nanoseconds: int | str) -> float:
    return int(nanoseconds) / 1e9


def _gpu_index(number: int) -> int | None:
    return None if number < 0 else number


def _fault(words: list[str]) -> Fault:
    names = {bits: name for name, bits in TOUCHES.items()}
    kind: Any = words[1]
    return Fault(
        kind=kind,
        gpu=_gpu_index(int(words[0])),
        start_s=_s(words[2]),
        end_s=_s(words[3]),
        touches=names[int(words[4])],
    )


def _segments(lines: Iterator[str], count: int, period_ns: int) -> Waveform:
    rows = [next(lines).split() for _ in range(count)]
    return Waveform(
        np.array([int(row[0]) for row in rows], dtype=np.int64),
        np.array([float(row[1]) for row in rows]),
        np.array([float(row[2]) for row in rows]),
        period_ns,
    )


def _gpu(values: dict[str, Any]) -> EmulatedGpu:
    tick, phase, lag, jitter, quantum_mj, base_mj, scope = values["counter"].split()
    counter_gain, power_gain, noise_mw = map(float, values["gain"].split())
    memory_bytes, used_bytes = map(int, values["memory_bytes"].split())
    limit, lowest, highest, _ = (int(word) / 1000 for word in values["limit_mw"].split())
    architecture, major, minor = map(int, values["architecture"].split())
    sm_mhz, sm_max_mhz, memory_mhz = map(int, values["clocks_mhz"].split())
    memory_ratio, _, module_extra_w, _ = map(float, values["scopes"].split())
    migs, parent = map(int, values["mig"].split())
    instant, average = (_sampled(values[name]) for name in ("instant", "average"))
    board = Preset(
        name=values["name"].removesuffix(" (emulated)"),
        architecture=architecture,
        compute_capability=(major, minor),
        memory_gib=memory_bytes >> 30,
        limit_w=(limit, lowest, highest),
        clocks_mhz=(sm_mhz, sm_max_mhz, memory_mhz),
        instant_window_s=instant.window_s,
        instant_period_s=instant.period_s,
        average_window_s=average.window_s,
        usage=int(values["usage_field"]),
        memory_ratio=memory_ratio,
        module_extra_w=module_extra_w,
        counter_scope=int(scope),
        basis="read from a world file",
    )
    return EmulatedGpu(
        board=board,
        device_uuid=values["uuid"],
        waveform=values["waveform"],
        counter=Counter(
            tick_s=_s(tick),
            phase_s=_s(phase),
            lag_s=_s(lag),
            jitter_s=_s(jitter),
            quantum_j=float(quantum_mj) / 1000,
            base_j=float(base_mj) / 1000,
        ),
        instant=instant,
        average=average,
        counter_gain=counter_gain,
        power_gain=power_gain,
        noise_w=noise_mw / 1000,
        seed=int(values["seed"]),
        memory_used_gib=used_bytes / (1 << 30),
        migs=migs,
        mig_power="parent" if parent else "not_supported",
    )


def _sampled(text: str) -> Sampled:
    window_s, period_s, phase_s = map(_s, text.split())
    return Sampled(window_s=window_s, period_s=period_s, phase_s=phase_s)
