"""What is emulated: the GPUs, their sensors and their faults, in one file that all clients read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from harness.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from .presets import Preset
    from .waveform import Waveform

WORLD_VARIABLE: Final = "JOULEMARK_EMULATOR"
"""The environment variable that names the world file."""

DRIVER_VERSION: Final = "emulated-580.0"
"""What nvmlSystemGetDriverVersion says; a client that sees "emulated" must say so, too."""

MAX_GPUS: Final = 16
_NS: Final = 1_000_000_000
_FOREVER_S: Final = 1e9

FaultKind = Literal[
    "reset",
    "lost",
    "not_supported",
    "no_permission",
    "timeout",
    "reset_required",
    "driver_mismatch",
    "unknown",
    "freeze",
    "stall",
]
FAULT_KINDS: Final = (
    "reset",
    "lost",
    "not_supported",
    "no_permission",
    "timeout",
    "reset_required",
    "driver_mismatch",
    "unknown",
    "freeze",
    "stall",
)
TOUCHES: Final = {"energy": 1, "power": 2, "other": 4, "processes": 8, "all": 15}
"""What a fault breaks → its bits in the world file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    Something that goes wrong for a while, in seconds after the world's origin.

    Args:
        kind: `reset`: the counter starts again at 0 at *start_s*. `freeze`: readings stay
            what they were. `stall`: calls return only at *end_s*. The others are error
            codes; `lost` and `driver_mismatch` break every call, the rest break *touches*.
        gpu: index; None: all of them.
        start_s: first instant.
        end_s: first instant after it.
        touches: a key of TOUCHES.
    """

    kind: FaultKind
    start_s: float
    end_s: float = _FOREVER_S
    gpu: int | None = None
    touches: str = "all"

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ConfigError(
                f"there is no fault {self.kind!r}",
                remedy=f"choose one of: {', '.join(FAULT_KINDS)}",
            )
        if self.touches not in TOUCHES:
            raise ConfigError(
                f"a fault cannot touch {self.touches!r}",
                remedy=f"choose one of: {', '.join(TOUCHES)}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """A stretch of time for which clock event reasons (NVML's bits) are reported."""

    reasons: int
    start_s: float
    end_s: float
    gpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A power reading: the mean over *window_s*, taken anew every *period_s*; 0: none."""

    window_s: float
    period_s: float
    phase_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """
    The energy counter.

    Args:
        tick_s: how often it moves.
        phase_s: when, after the origin.
        lag_s: how old the energy is that a tick shows.
        jitter_s: each tick comes up to this much early or late; below half of *tick_s*.
        quantum_j: it moves in whole multiples of this.
        base_j: what it showed at the origin.
    """

    tick_s: float = 0.1
    phase_s: float = 0.0
    lag_s: float = 0.0
    jitter_s: float = 0.0
    quantum_j: float = 0.001
    base_j: float = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedGpu:
    """
    One GPU.

    Args:
        board: the fixed facts.
        device_uuid: `GPU-…`.
        waveform: its true power.
        counter: the energy counter.
        instant: field 186.
        average: field 185.
        counter_gain: what the counter shows per true joule.
        power_gain: what power readings show per true watt.
        noise_w: each new power reading is off by up to this much, uniformly.
        seed: of the noise and the jitter.
        memory_used_gib: what memory info reports.
        migs: MIG instances, 0 to 7.
        mig_power: energy and power of a MIG handle: an error, or the whole board's value.
    """

    board: Preset
    device_uuid: str
    waveform: Waveform
    counter: Counter
    instant: Sampled
    average: Sampled
    counter_gain: float = 1.0
    power_gain: float = 1.0
    noise_w: float = 0.0
    seed: int = 0
    memory_used_gib: float = 1.0
    migs: int = 0
    mig_power: Literal["not_supported", "parent"] = "not_supported"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """
    Everything the library needs to know.

    Args:
        gpus: 1 to 16.
        origin_ns: CLOCK_MONOTONIC at which every waveform starts.
        power_latency_s: how long a power (or other) call takes.
        energy_latency_s: the same of the energy counter.
        spin: calls burn CPU instead of sleeping.
        faults: what goes wrong, and when.
        throttles: clock event reasons over time.
        processes: a file of `gpu pid sm_percent memory_percent memory_bytes` lines,
            read afresh at each call; None: no processes.
    """

    gpus: tuple[EmulatedGpu, ...]
    origin_ns: int
    power_latency_s: float = 0.0
    energy_latency_s: float = 0.0
    spin: bool = False
    faults: tuple[Fault, ...] = ()
    throttles: tuple[Throttle, ...] = ()
    processes: Path | None = None
    driver_version: str = field(default=DRIVER_VERSION)

    def __post_init__(self) -> None:
        if not 1 <= len(self.gpus) <= MAX_GPUS:
            raise ConfigError(
                f"{len(self.gpus)} GPUs cannot be emulated", remedy=f"choose 1 to {MAX_GPUS}"
            )

    def write(self, path: Path) -> Path:
        """Write the world file; the format is internal to this package and `nvml.c`."""
        lines = [
            "joulemark-emulator 1",
            f"origin_ns {self.origin_ns}",
            f"latency_ns {_ns(self.power_latency_s)} {_ns(self.energy_latency_s)} {self.spin:d}",
            f"driver_version {self.driver_version}",
            f"nvml_version 13.{self.driver_version}",
            "cuda_version 13000",
        ]
        if self.processes is not None:
            lines.append(f"processes_file {self.processes.absolute()}")
        lines += [
            f"fault {_index(x.gpu)} {x.kind} {_ns(x.start_s)} {_ns(x.end_s)} {TOUCHES[x.touches]}"
            for x in self.faults
        ]
        lines += [
            f"throttle {_index(x.gpu)} {x.reasons} {_ns(x.start_s)} {_ns(x.end_s)}"
            for x in self.throttles
        ]
        for index, gpu in enumerate(self.gpus):
            lines += _gpu_lines(index, gpu)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _index(gpu: int | None) -> int:
    return -1 if gpu is None else gpu


def _gpu_lines(index: int, gpu: EmulatedGpu) -> list[str]:
    board, counter = gpu.board, gpu.counter
    limit, lowest, highest = (round(watts * 1000) for watts in board.limit_w)
    sampled = [
        f"{name} {_ns(s.window_s)} {_ns(s.period_s)} {_ns(s.phase_s)}"
        for name, s in (("instant", gpu.instant), ("average", gpu.average))
    ]
    counted = (
        f"counter {_ns(counter.tick_s)} {_ns(counter.phase_s)} {_ns(counter.lag_s)} "
        f"{_ns(counter.jitter_s)} {counter.quantum_j * 1000!r} {counter.base_j * 1000!r} "
        f"{board.counter_scope}"
    )
    return [
        "gpu",
        f"name {board.name} (emulated)",
        f"uuid {gpu.device_uuid}",
        f"pci 00000000:{index + 1:02X}:00.0",
        f"serial EMULATED{index:08d}",
        f"seed {gpu.seed}",
        f"architecture {board.architecture} {' '.join(map(str, board.compute_capability))}",
        f"memory_bytes {board.memory_gib << 30} {round(gpu.memory_used_gib * (1 << 30))}",
        f"limit_mw {limit} {lowest} {highest} {limit}",
        f"clocks_mhz {' '.join(map(str, board.clocks_mhz))}",
        f"gain {gpu.counter_gain!r} {gpu.power_gain!r} {gpu.noise_w * 1000!r}",
        counted,
        *sampled,
        f"usage_field {board.usage}",
        f"scopes {board.memory_ratio!r} 0 {board.module_extra_w!r} {board.counter_scope}",
        f"mig {gpu.migs} {gpu.mig_power == 'parent':d}",
        *_waveform_lines(gpu.waveform),
    ]


def _waveform_lines(waveform: Waveform) -> list[str]:
    if waveform.live is not None:
        return [f"live {float(waveform.first_w[0])!r} {waveform.live.absolute()}"]
    rows = zip(waveform.start_ns, waveform.first_w, waveform.last_w, strict=True)
    return [
        f"segments {len(waveform.start_ns)} {waveform.period_ns}",
        *(f"{int(t)} {float(first)!r} {float(last)!r}" for t, first, last in rows),
    ]
