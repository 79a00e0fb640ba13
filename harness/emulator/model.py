"""The emulated sensors in numpy: the same numbers as `nvml.c`, without a library or waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from .live import with_records

if TYPE_CHECKING:
    from .waveform import Waveform
    from .world import EmulatedGpu, Sampled, World

INSTANT: Final = 186
AVERAGE: Final = 185
GPU, MODULE, MEMORY = 0, 1, 2

_Instants = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def _noise(seed: int, stream: int, k: _Instants) -> _Numbers:
    """Uniform in [-1, 1), by splitmix64 as in `nvml.c`."""
    with np.errstate(over="ignore"):
        offset = np.uint64((seed + stream * 0xD1342543DE82EF95) % (1 << 64))
        z = offset + k.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


class SensorModel:
    """
    One GPU of a world; all instants are CLOCK_MONOTONIC nanoseconds, all answers arrays.

    A live waveform is read once, when the model is made.
    """

    def __init__(self, world: World, gpu: int) -> None:
        self._world = world
        self._index = gpu
        self._gpu: EmulatedGpu = world.gpus[gpu]
        self._waveform: Waveform = with_records(self._gpu.waveform, origin_ns=world.origin_ns)

    def energy_j(self, t_ns: npt.ArrayLike, *, scope: int = GPU) -> _Numbers:
        """True joules from the origin to *t_ns*; no sensor in between."""
        since_ns = np.asarray(t_ns, dtype=np.int64) - self._world.origin_ns
        energy = self._waveform.energy_j(since_ns)
        board = self._gpu.board
        if scope == MODULE and board.module_extra_w > 0:
            energy = energy + board.module_extra_w * (since_ns * 1e-9)
        if scope == MEMORY:
            energy = energy * board.memory_ratio
        return energy

    def true_energy_j(self, start_ns: int, end_ns: int, *, scope: int = GPU) -> float:
        """Joules truly drawn between two instants."""
        return float(self.energy_j(end_ns, scope=scope) - self.energy_j(start_ns, scope=scope))

    def counter_mj(self, t_ns: npt.ArrayLike) -> _Numbers:
        """What the energy counter shows, millijoules; faults other than reset and freeze apart."""
        counter, scope = self._gpu.counter, self._gpu.board.counter_scope
        at_ns = self._sensor_time_ns(np.asarray(t_ns, dtype=np.int64))
        seen_ns = self.last_tick_ns(at_ns) - _ns(counter.lag_s)
        scale = self._gpu.counter_gain * 1000.0
        shown_j = self.energy_j(seen_ns, scope=scope)
        mj = counter.base_j * 1000 + scale * shown_j
        for reset_ns in sorted(self._fault_ns("reset")):
            since_mj = scale * (shown_j - self.energy_j(reset_ns, scope=scope))
            mj = np.where(at_ns >= reset_ns, since_mj, mj)
        quantum_mj = counter.quantum_j * 1000
        steps: _Numbers = np.floor(np.maximum(mj, 0.0) / quantum_mj) * quantum_mj
        return steps

    def power_mw(
        self, t_ns: npt.ArrayLike, *, field: Literal[185, 186] = INSTANT, scope: int = GPU
    ) -> _Numbers:
        """What field 186 or 185 shows, milliwatts; NaN if this board has no such field."""
        sampled: Sampled = self._gpu.instant if field == INSTANT else self._gpu.average
        at_ns = self._sensor_time_ns(np.asarray(t_ns, dtype=np.int64))
        if not sampled.window_s:
            return np.full(at_ns.shape, np.nan)
        zero_ns = self._world.origin_ns + _ns(sampled.phase_s)
        k = (at_ns - zero_ns) // _ns(sampled.period_s)
        end_ns = zero_ns + k * _ns(sampled.period_s)
        start_ns = end_ns - _ns(sampled.window_s)
        spent_j = self.energy_j(end_ns, scope=scope) - self.energy_j(start_ns, scope=scope)
        mw = spent_j / (_ns(sampled.window_s) * 1e-9) * self._gpu.power_gain * 1000.0
        noise_mw = self._gpu.noise_w * 1000
        if noise_mw > 0:
            mw = mw + noise_mw * _noise(self._gpu.seed, field, k)
        return np.maximum(np.floor(mw + 0.5), 0.0)

    def last_tick_ns(self, t_ns: npt.ArrayLike) -> _Instants:
        """When the counter last moved at or before *t_ns*."""
        at_ns = np.asarray(t_ns, dtype=np.int64)
        counter = self._gpu.counter
        zero_ns = self._world.origin_ns + _ns(counter.phase_s)
        k = (at_ns - zero_ns) // _ns(counter.tick_s) + 1
        for _ in range(3):
            k = np.where(self._tick_ns(k) > at_ns, k - 1, k)
        return self._tick_ns(k)

    def _tick_ns(self, k: _Instants) -> _Instants:
        counter = self._gpu.counter
        zero_ns = self._world.origin_ns + _ns(counter.phase_s)
        lattice_ns: _Instants = zero_ns + k * _ns(counter.tick_s)
        if not counter.jitter_s:
            return lattice_ns
        shift_ns = np.floor(_ns(counter.jitter_s) * _noise(self._gpu.seed, 1, k))
        moved: _Instants = lattice_ns + shift_ns.astype(np.int64)
        return moved

    def _fault_ns(self, kind: str) -> list[int]:
        return [
            self._world.origin_ns + _ns(fault.start_s)
            for fault in self._world.faults
            if fault.kind == kind and fault.gpu in {None, self._index}
        ]

    def _sensor_time_ns(self, t_ns: _Instants) -> _Instants:
        """While frozen, sensors stay at the instant the fault began."""
        for fault in self._world.faults:
            if fault.kind == "freeze" and fault.gpu in {None, self._index}:
                start_ns = self._world.origin_ns + _ns(fault.start_s)
                end_ns = self._world.origin_ns + _ns(fault.end_s)
                t_ns = np.where((t_ns >= start_ns) & (t_ns < end_ns), start_ns, t_ns)
        return t_ns
