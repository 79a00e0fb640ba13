"""A power waveform, or a recording played back, for tests and demonstrations; never measured."""

from __future__ import annotations

import bisect
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.clock import MonotonicClock
from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, ReadStatus

from ._recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """
    A made-up device whose true energy is known in closed form.

    The waveform is a function of CLOCK_MONOTONIC since *t_zero_ns*, the same for
    all devices, each of which draws the same.

    Args:
        waveform: `constant` (high_w), `square` (high_w for the first half of each
            period, low_w for the second), `ramp` (low_w to high_w over a period,
            then again) or `trace` (*trace*, repeated).
        low_w: watts of the lower level.
        high_w: watts of the upper level.
        period_s: length of one cycle of square and ramp.
        trace: (seconds, watts) steps: that many watts for that many seconds.
        tick_s: how often the energy counter and the power reading move.
        quantum_j: the counter's smallest step.
        devices: how many.
        boundary: what it pretends to be.
        lost_after_s: seconds after opening at which the device stops answering.
        reset_after_s: seconds after opening at which the energy counter starts again at 0.
        t_zero_ns: the instant at which the waveform and the ticks begin.
        fail: instead of opening, fail with this message.
        recording: a sampler's journal (`power.jmj`) to play back instead, from when it is
            opened; the other options then say nothing.
    """

    waveform: Literal["constant", "square", "ramp", "trace"] = "constant"
    low_w: float = 70.0
    high_w: float = 300.0
    period_s: float = 2.0
    trace: tuple[tuple[float, float], ...] = ()
    tick_s: float = 0.1
    quantum_j: float = 0.001
    devices: int = 1
    boundary: Boundary = "gpu"
    lost_after_s: float | None = None
    reset_after_s: float | None = None
    t_zero_ns: int = 0
    fail: str | None = None
    recording: str = ""

    def open(self) -> _Session | Recording:
        """Start the pretence; the counter of each device begins at a non-zero value."""
        if self.fail is not None:
            raise PowerUnavailableError(self.fail, remedy="remove `fail` from its options")
        if self.recording:
            return Recording(Path(self.recording), clock=MonotonicClock())
        return _Session(self)

    def true_energy_j(self, t_ns: int) -> float:
        """Joules drawn by one device from *t_zero_ns* to *t_ns*, exactly."""
        seconds = (t_ns - self.t_zero_ns) / _NANOSECONDS
        steps = self._steps()
        starts = list(itertools.accumulate((step[0] for step in steps), initial=0.0))
        cycles, rest = divmod(seconds, starts[-1])
        whole = sum(length * (first + last) / 2 for length, first, last in steps)
        energy = cycles * whole
        for start, (length, first, last) in zip(starts, steps, strict=False):
            part = min(max(rest - start, 0.0), length)
            energy += part * (first + (last - first) * part / length / 2)
        return energy

    def true_power_w(self, t_ns: int) -> float:
        """Watts drawn by one device at *t_ns*."""
        steps = self._steps()
        starts = list(itertools.accumulate((step[0] for step in steps), initial=0.0))
        rest = math.fmod((t_ns - self.t_zero_ns) / _NANOSECONDS, starts[-1])
        index = min(bisect.bisect_right(starts, rest), len(steps)) - 1
        length, first, last = steps[index]
        return first + (last - first) * (rest - starts[index]) / length

    def _steps(self) -> list[tuple[float, float, float]]:
        """One cycle as (seconds, watts at its start, watts at its end)."""
        match self.waveform:
            case "constant":
                return [(self.period_s, self.high_w, self.high_w)]
            case "square":
                half = self.period_s / 2
                return [(half, self.high_w, self.high_w), (half, self.low_w, self.low_w)]
            case "ramp":
                return [(self.period_s, self.low_w, self.high_w)]
            case "trace":
                return [(seconds, watts, watts) for seconds, watts in self.trace]


class _Session:
    """What `Scripted.open` returns."""

    def __init__(self, options: Scripted) -> None:
        self._options = options
        self._t_open_ns = time.perf_counter_ns()
        self.period_s: float | None = None
        self.calls: list[tuple[Channel, ...]] = []
        for number in range(options.devices):
            device = f"scripted-{number}"
            self.calls.append(
                (
                    Channel(
                        name=f"scripted:{number}:energy",
                        quantity="energy",
                        boundary=options.boundary,
                        device=device,
                        power_kind="emulated",
                        method=f"counter of a scripted {options.waveform} waveform",
                        quantum=options.quantum_j,
                        sense="counter",
                    ),
                )
            )
            self.calls.append(
                (
                    Channel(
                        name=f"scripted:{number}:instant",
                        quantity="power",
                        boundary=options.boundary,
                        device=device,
                        power_kind="emulated",
                        method=f"power of a scripted {options.waveform} waveform",
                        sense="instant",
                    ),
                )
            )

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        options = self._options
        now_ns = time.perf_counter_ns()
        tick_ns = round(options.tick_s * _NANOSECONDS)
        t_ns = now_ns - (now_ns - options.t_zero_ns) % tick_ns
        age_s = (now_ns - self._t_open_ns) / _NANOSECONDS
        if options.lost_after_s is not None and age_s >= options.lost_after_s:
            return [(math.nan, ReadStatus.LOST)]
        if call % 2:
            return [(options.true_power_w(t_ns), ReadStatus.OK)]
        energy = options.true_energy_j(t_ns)
        if options.reset_after_s is not None and age_s >= options.reset_after_s:
            t_reset_ns = self._t_open_ns + round(options.reset_after_s * _NANOSECONDS)
            energy = max(energy - options.true_energy_j(t_reset_ns), 0.0)
        return [(math.floor(energy / options.quantum_j) * options.quantum_j, ReadStatus.OK)]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        gpus = {f"scripted-{index}": {"index": index} for index in range(self._options.devices)}
        return {"driver": "scripted", "waveform": self._options.waveform, "gpus": gpus}

    def close(self) -> None:
        pass


PLUGIN: type[PowerSource] = Scripted
