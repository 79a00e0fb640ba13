"""Slow counters in simulated time: devices, and the reads of them that a sampler would make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from benchmarks.gpu import polls
from benchmarks.gpu.arithmetic import changes, regular
from harness.aim import GOLDEN, Aim
from harness.emulator import make, waveform
from harness.timeline import Channel, PowerTrace
from harness.turns import Aims

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.emulator.model import SensorModel
    from harness.emulator.world import World

POWER_HZ: Final = 50.0
COUNTER_HZ: Final = 20.0
BUSY_RATIO: Final = 0.10
POWER_READ_NS: Final = 60_000
BETWEEN_NS: Final = 40_000
BURST_NS: Final = 150_000_000
BURST_STEP_NS: Final = 1_000_000


class Device(Protocol):
    """A counter that takes its time."""

    def read(self, t_ns: int) -> tuple[int, float]:
        """Nanoseconds that a read begun at *t_ns* takes, and the joules that it says."""
        ...


@dataclass(slots=True)
class Modelled:
    """The emulator's sensor model; the value is taken somewhere inside the call."""

    model: SensorModel
    read_ns: int
    random: np.random.Generator
    tail: bool = False

    def read(self, t_ns: int) -> tuple[int, float]:
        """As `Device`; with a tail, like the H100's: now and then ten times as long."""
        draw = self.random.random(3)
        took_ns = self.read_ns * (0.7 + 0.6 * draw[0])
        if self.tail and draw[1] < 0.07:
            took_ns *= 2 + 5 * draw[2]
        taken_ns = t_ns + int(took_ns * self.random.random())
        return int(took_ns), float(self.model.counter_mj(np.array([taken_ns]))[0]) / 1e3


@dataclass(slots=True)
class Recorded:
    """Readings of a real counter: the value it had, and as long a read as was recorded then."""

    start_ns: np.ndarray
    took_ns: np.ndarray
    tick_ns: np.ndarray
    tick_j: np.ndarray

    def read(self, t_ns: int) -> tuple[int, float]:
        """As `Device`; the value is taken in the middle of the call."""
        at = min(int(np.searchsorted(self.start_ns, t_ns)), len(self.start_ns) - 1)
        took_ns = int(self.took_ns[at])
        tick = int(np.searchsorted(self.tick_ns, t_ns + took_ns // 2, side="right")) - 1
        return took_ns, float(self.tick_j[max(tick, 0)])


def recorded(path: Path) -> Recorded:
    """A device that plays back an archive of back-to-back reads, its ticks on the one lattice."""
    found = polls.trace(path, "measured")
    moved = changes(found)
    ticks = regular(moved)
    if ticks is None:
        msg = f"no lattice goes through all changes of {path}"
        raise ValueError(msg)
    start_ns = found.t_before_ns
    return Recorded(
        start_ns,
        found.t_after_ns - start_ns,
        np.concatenate((start_ns[:1], ticks.instant_ns)),
        np.concatenate((found.value[:1], moved.value)),
    )


@dataclass(slots=True)
class Sampled:
    """What a run left: for each counter its reads, when power was read, what reading took."""

    reads: list[list[tuple[int, int, float]]]
    lasted_s: float
    power_ns: list[int] = field(default_factory=list)
    power_waits: bool = True
    """Power was read between the counters' reads; else beside them, on time by assumption."""
    aims: Aims | None = None

    @property
    def busy_ratio(self) -> float:
        """Share of the time for which a counter was being read."""
        took = sum(after - before for reads in self.reads for before, after, _ in reads)
        return took / 1e9 / self.lasted_s

    @property
    def reads_hz(self) -> float:
        """Reads of one counter a second."""
        return sum(map(len, self.reads)) / len(self.reads) / self.lasted_s

    @property
    def period_error_ms(self) -> float | None:
        """The 99th percentile of how far rounds of power are from their period; None: assumed."""
        if not self.power_waits:
            return None
        steps_ms = np.diff(self.power_ns) / 1e6
        return float(np.percentile(np.abs(steps_ms - 1e3 / POWER_HZ), 99))


class _Clock:
    """A thread: reads follow each other; power, where it is read by the same, when it can."""

    def __init__(self, devices: Sequence[Device], begin_ns: int) -> None:
        self.now_ns = begin_ns
        self.devices = devices
        self.power_due_ns = begin_ns
        self.out = Sampled([[] for _ in devices], 0.0)
        self.step_ns = round(1e9 / POWER_HZ)

    def read(self, number: int) -> tuple[int, int, float]:
        took_ns, value = self.devices[number].read(self.now_ns)
        found = (self.now_ns, self.now_ns + took_ns, value)
        self.out.reads[number].append(found)
        self.now_ns = found[1] + BETWEEN_NS
        return found

    def power(self) -> None:
        if self.power_due_ns <= self.now_ns:
            self.out.power_ns.append(self.now_ns)
            self.now_ns += POWER_READ_NS * len(self.devices)
            while self.power_due_ns <= self.now_ns:
                self.power_due_ns += self.step_ns

    def costs_ns(self) -> int:
        """The reads made at the start, and how long a round of them takes."""
        rounds = []
        for _ in range(5):
            begun_ns = self.now_ns
            for number in range(len(self.devices)):
                self.read(number)
            rounds.append(self.now_ns - begun_ns)
        return int(np.median(rounds))


def aimed(
    devices: Sequence[Device], begin_ns: int, end_ns: int, marks: Sequence[int] = ()
) -> Sampled:
    """Read as the sampler does where reads are slow: in a thread, power on time beside it."""
    clock = _Clock(devices, begin_ns)
    grid_ns = round(max(1 / COUNTER_HZ, clock.costs_ns() / 1e9 / BUSY_RATIO) * 1e9)
    now_ns = clock.now_ns
    aims = Aims(
        [Aim(grid_ns=grid_ns, begun_ns=now_ns) for _ in devices],
        most_hz=COUNTER_HZ,
        busy_ratio=BUSY_RATIO,
    )
    waiting = sorted(marks)
    while True:
        clock.now_ns = max(clock.now_ns, min([aims.next_ns, *waiting[:1]]))
        if clock.now_ns >= end_ns:
            break
        while waiting and waiting[0] <= clock.now_ns:
            aims.announce(waiting.pop(0))
        number = aims.choose(clock.now_ns)
        if number is not None:
            aims.took(number, *clock.read(number))
    clock.out.power_ns = list(range(begin_ns, end_ns, clock.step_ns))
    clock.out.power_waits = False
    clock.out.lasted_s, clock.out.aims = (end_ns - begin_ns) / 1e9, aims
    return clock.out


def dithered(
    devices: Sequence[Device], begin_ns: int, end_ns: int, marks: Sequence[int] = ()
) -> Sampled:
    """Read in rounds at dithered times, and in bursts after marks and at the start."""
    clock = _Clock(devices, begin_ns)
    period_ns = round(max(1 / COUNTER_HZ, clock.costs_ns() / 1e9 / BUSY_RATIO) * 1e9)
    origin_ns, number = clock.now_ns, 0
    burst: list[int] = list(range(len(devices)))
    burst_ns, until_ns, whole = clock.now_ns, clock.now_ns + BURST_NS, True
    waiting = sorted(marks)
    while clock.now_ns < end_ns:
        due_ns = origin_ns + round((number + number * GOLDEN % 1.0) * period_ns)
        clock.now_ns = max(
            clock.now_ns, min(clock.power_due_ns, due_ns, *waiting[:1], *([burst_ns] * bool(burst)))
        )
        clock.power()
        if due_ns <= clock.now_ns:
            for one in range(len(devices)):
                clock.read(one)
            late = (clock.now_ns - origin_ns) // period_ns
            number = max(number + 1, late)
        if waiting and waiting[0] <= clock.now_ns:
            burst, burst_ns, whole = list(range(len(devices))), clock.now_ns, False
            until_ns = waiting.pop(0) + BURST_NS
            known: dict[int, float] = {}
        if burst and burst_ns <= clock.now_ns:
            left = []
            for one in burst:
                _, _, value = clock.read(one)
                if whole or known.setdefault(one, value) == value:
                    left.append(one)
            burst_ns = max(burst_ns + BURST_STEP_NS, clock.now_ns)
            burst = left if burst_ns <= until_ns else []
    clock.out.lasted_s = (end_ns - begin_ns) / 1e9
    return clock.out


def trace(
    reads: Sequence[tuple[int, int, float]], device: str = "0", kind: str = "emulated"
) -> PowerTrace:
    """The counter's channel, as `harness.integrate` takes it."""
    channel = Channel(
        name=f"{device}:energy",
        quantity="energy",
        boundary="gpu",
        device=device,
        power_kind="measured" if kind == "measured" else "emulated",
        method="simulated",
        quantum=1e-3,
        sense="counter",
    )
    before, after, value = (np.array(column) for column in zip(*reads, strict=True))
    return PowerTrace(channel, before, after, value.astype(float), np.zeros(len(before), "u2"))


def power_traces(sampled: Sampled, models: Sequence[SensorModel]) -> list[PowerTrace]:
    """Instant power of each device, at the times at which power was read."""
    found = []
    for number, model in enumerate(models):
        counter = trace(sampled.reads[number], str(number)).channel
        before = np.array(sampled.power_ns) + number * POWER_READ_NS
        for sense, code in (("instant", 186), ("average", 185)):
            channel = replace(
                counter, name=f"{number}:{sense}", quantity="power", quantum=None, sense=sense
            )
            watts = model.power_mw(before, field=code) / 1e3
            status = np.zeros(len(before), "u2")
            found.append(PowerTrace(channel, before, before + POWER_READ_NS, watts, status))
    return found


WAVEFORMS: Final = {
    "constant": lambda r: waveform.constant(power_w=float(r.uniform(100, 690))),
    "square 2 s": lambda r: waveform.square(
        low_w=70, high_w=680, period_s=2.0, phase_s=float(r.uniform(0, 2))
    ),
    "decode": lambda r: waveform.decode(
        seed=float(r.integers(1000)), phase_s=float(r.uniform(0, 60))
    ),
}


def worlds(random: np.random.Generator, load: str, gpus: int, **sensor: float) -> World:
    """GPUs that share a load and tick at phases of their own."""
    world = make.make_world(
        [WAVEFORMS[load](random)], gpus=gpus, seed=int(random.integers(1 << 31)), origin_ns=0
    )
    return make.with_sensors(world, **sensor)
