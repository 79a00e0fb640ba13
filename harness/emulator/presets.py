"""What the sensors of each architecture do, as far as it is published, with the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """
    One board as the emulator presents it.

    Args:
        name: the device name; the emulator appends "(emulated)".
        architecture: NVML's number.
        compute_capability: major, minor.
        memory_gib: board memory.
        limit_w: power limits: current and default, minimum, maximum.
        clocks_mhz: SM now, SM highest, memory.
        instant_window_s: what one value of field 186 averages over, every 0.1 s
            unless *instant_period_s* says otherwise.
        instant_period_s: how often it changes.
        average_window_s: the same of field 185; 0: the field is not supported.
        usage: which of the two nvmlDeviceGetPowerUsage gives.
        memory_ratio: share of the power that scope MEMORY reports; negative: not supported.
        module_extra_w: what scope MODULE has on top of the GPU; negative: not supported.
        counter_scope: 0: the energy counter covers the GPU; 1: the module.
        basis: where these numbers come from.
    """

    name: str
    architecture: int
    compute_capability: tuple[int, int]
    memory_gib: int
    limit_w: tuple[float, float, float]
    clocks_mhz: tuple[int, int, int]
    instant_window_s: float
    instant_period_s: float = 0.1
    average_window_s: float = 1.0
    usage: int = 185
    memory_ratio: float = -1.0
    module_extra_w: float = -1.0
    counter_scope: int = 0
    basis: str


_YANG: Final = "Yang et al., arXiv 2312.02741 (drivers up to 535)"

_PRESETS: Final = {
    "h100": Preset(
        name="NVIDIA H100 80GB HBM3",
        architecture=9,
        compute_capability=(9, 0),
        memory_gib=80,
        limit_w=(700.0, 200.0, 700.0),
        clocks_mhz=(1980, 1980, 2619),
        instant_window_s=0.025,
        memory_ratio=0.2,
        basis=f"{_YANG}: H100 PCIe, 25 ms of every 100 ms; counter tick of 100 ms from reports",
    ),
    "h200": Preset(
        name="NVIDIA H200",
        architecture=9,
        compute_capability=(9, 0),
        memory_gib=141,
        limit_w=(700.0, 200.0, 700.0),
        clocks_mhz=(1980, 1980, 3201),
        instant_window_s=0.025,
        memory_ratio=0.2,
        basis="assumed as h100: no source found",
    ),
    "b200": Preset(
        name="NVIDIA B200",
        architecture=10,
        compute_capability=(10, 0),
        memory_gib=180,
        limit_w=(1000.0, 200.0, 1000.0),
        clocks_mhz=(1965, 1965, 3996),
        instant_window_s=0.025,
        memory_ratio=0.2,
        basis="assumed as h100: no source found",
    ),
    "gh200": Preset(
        name="NVIDIA GH200 480GB",
        architecture=9,
        compute_capability=(9, 0),
        memory_gib=96,
        limit_w=(900.0, 100.0, 900.0),
        clocks_mhz=(1980, 1980, 2619),
        instant_window_s=0.025,
        memory_ratio=0.2,
        module_extra_w=120.0,
        counter_scope=1,
        basis="sensors assumed as h100; the counter covers the module (Zeus PR 172)",
    ),
    "a100": Preset(
        name="NVIDIA A100-SXM4-80GB",
        architecture=7,
        compute_capability=(8, 0),
        memory_gib=80,
        limit_w=(400.0, 100.0, 400.0),
        clocks_mhz=(1410, 1410, 1593),
        instant_window_s=0.025,
        average_window_s=0.0,
        usage=186,
        basis=f"{_YANG}: GA100, 25 ms of every 100 ms, no average field",
    ),
    "l40s": Preset(
        name="NVIDIA L40S",
        architecture=8,
        compute_capability=(8, 9),
        memory_gib=48,
        limit_w=(350.0, 100.0, 350.0),
        clocks_mhz=(2520, 2520, 9001),
        instant_window_s=0.1,
        basis=f"{_YANG}: Ada, 100 ms of every 100 ms",
    ),
    "t4": Preset(
        name="Tesla T4",
        architecture=6,
        compute_capability=(7, 5),
        memory_gib=16,
        limit_w=(70.0, 60.0, 70.0),
        clocks_mhz=(1590, 1590, 5001),
        instant_window_s=0.1,
        average_window_s=0.0,
        usage=186,
        basis=f"{_YANG}: Turing, 100 ms of every 100 ms, no average field",
    ),
}


def preset(arch: str) -> Preset:
    """
    Look one up.

    Raises:
        ConfigError: there is no such board; the message lists those there are.
    """
    if arch not in _PRESETS:
        raise ConfigError(
            f"the emulator knows no board {arch!r}", remedy=f"choose one of: {', '.join(_PRESETS)}"
        )
    return _PRESETS[arch]


def names() -> tuple[str, ...]:
    """Every board the emulator can present."""
    return tuple(_PRESETS)
