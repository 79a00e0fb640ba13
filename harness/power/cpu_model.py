"""CPU package power modelled from the CPU time of the engine's processes; not a measurement."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.contracts import PowerSource
from harness.timeline import Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RESCAN_NS: Final = 200_000_000
_CLOCK_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """
    Energy = cores x idle_w_per_core x time + busy_w_per_core x CPU seconds.

    The CPU seconds are those of the watched processes and all their descendants,
    from the moment each was watched; nothing else on the machine is counted,
    though idle power is that of all cores. No frequency, no temperature, no
    memory: a number to see the tool work by, not to decide by.

    Args:
        idle_w_per_core: watts per logical CPU that runs nothing.
        busy_w_per_core: watts a logical CPU draws beyond that while it runs.
        cores: logical CPUs; None: those of this machine.

    Source:
        The defaults are the average cloud server's 0.74 W idle and 3.5 W busy per
        vCPU of the Cloud Carbon Footprint methodology (its AWS coefficients, after
        SPECpower). An assumption: a laptop or a one-socket server may be at twice
        or half of it.
    """

    idle_w_per_core: float = 0.74
    busy_w_per_core: float = 2.76
    cores: int | None = None

    def open(self) -> _Session:
        """Start the counter at 0; needs nothing but /proc."""
        return _Session(self)


@dataclass(slots=True)
class _Usage:
    """CPU seconds last seen of one process: its own, and those of the children it reaped."""

    own_s: float
    reaped_s: float
    parent: int


@dataclass(slots=True)
class _Tree:
    """Counts the CPU seconds of some processes and their descendants, past and present."""

    total_s: float = 0.0
    roots: set[int] = field(default_factory=set)
    known: dict[int, _Usage] = field(default_factory=dict)
    t_scan_ns: int = 0

    def watch(self, pids: Sequence[int]) -> None:
        """Count these from now on; what they used before is left out."""
        self.update(rescan=True)
        self.roots, self.known = set(pids), {}
        self.known = {pid: usage for pid in self._scan() if (usage := _usage(pid)) is not None}

    def update(self, *, rescan: bool) -> None:
        """
        Bring `total_s` up to now.

        A child's seconds are counted while it runs, and move into its parent's
        `reaped` when it has ended: what was counted already is taken off there,
        so nothing is lost and nothing counted twice.
        """
        pids = self._scan() if rescan else list(self.known)
        fresh: dict[int, _Usage] = {}
        for pid in pids:
            seen = self.known.get(pid)
            if not rescan and seen is not None:
                own_s = _own_s(pid)
                if own_s is not None:
                    fresh[pid] = _Usage(own_s, seen.reaped_s, seen.parent)
                    self.total_s += max(own_s - seen.own_s, 0.0)
                    continue
            usage = _usage(pid)
            if usage is None:
                continue
            fresh[pid] = usage
            self.total_s += max(usage.own_s - (seen.own_s if seen else 0.0), 0.0)
        if not rescan:
            # A process that ended stays known until the next scan settles its account.
            self.known.update(fresh)
            return
        settled: dict[int, float] = {}
        for pid, seen in self.known.items():
            if pid not in fresh and seen.parent in fresh:
                settled[seen.parent] = settled.get(seen.parent, 0.0) + seen.own_s + seen.reaped_s
        for pid, usage in fresh.items():
            before = self.known.get(pid)
            gained_s = usage.reaped_s - (before.reaped_s if before else 0.0)
            self.total_s += max(gained_s - settled.get(pid, 0.0), 0.0)
        self.known = fresh

    def _scan(self) -> list[int]:
        """The roots and all that descend from them, and orphans seen before."""
        self.t_scan_ns = time.perf_counter_ns()
        todo = [*self.roots, *self.known]
        found: dict[int, None] = {}
        while todo:
            pid = todo.pop()
            if pid not in found:
                found[pid] = None
                todo += _children(pid)
        return list(found)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return children
    for thread in threads:
        try:
            text = (thread / "children").read_text(encoding="ascii")
        except OSError:
            continue
        children += map(int, text.split())
    return children


def _own_s(pid: int) -> float | None:
    # The kernel's number for "CPU time of process pid" (CPUCLOCK_SCHED), which has
    # nanoseconds where /proc has hundredths.
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        return None


def _usage(pid: int) -> _Usage | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    own_s = _own_s(pid)
    if own_s is None:
        own_s = (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S
    reaped_s = (int(fields[13]) + int(fields[14])) / _CLOCK_TICKS_PER_S
    return _Usage(own_s, reaped_s, int(fields[1]))


class _Session:
    """What `CpuModel.open` returns."""

    def __init__(self, options: CpuModel) -> None:
        self._options = options
        self._cores = options.cores or os.cpu_count() or 1
        self._idle_w = self._cores * options.idle_w_per_core
        self._tree = _Tree()
        self._t_open_ns = time.perf_counter_ns()
        self._last: tuple[int, float] = (self._t_open_ns, 0.0)
        self.period_s: float | None = None
        method = (
            f"model: {self._cores} cores x {options.idle_w_per_core} W idle"
            f" + {options.busy_w_per_core} W per busy core, from process CPU time"
        )
        energy = Channel(
            name="cpu_model:energy",
            quantity="energy",
            boundary="cpu_package",
            device="cpu",
            power_kind="modelled",
            method=method,
            sense="counter",
        )
        power = Channel(
            name="cpu_model:mean",
            quantity="power",
            boundary="cpu_package",
            device="cpu",
            power_kind="modelled",
            method=method,
            sense="mean",
        )
        self.calls: list[tuple[Channel, ...]] = [(energy, power)]

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        del call
        now_ns = time.perf_counter_ns()
        self._tree.update(rescan=now_ns - self._tree.t_scan_ns > _RESCAN_NS)
        busy_j = self._options.busy_w_per_core * self._tree.total_s
        energy_j = self._idle_w * (now_ns - self._t_open_ns) / 1e9 + busy_j
        t_last_ns, last_j = self._last
        self._last = (now_ns, energy_j)
        if now_ns <= t_last_ns:
            return [(energy_j, ReadStatus.OK), (math.nan, ReadStatus.STALE)]
        mean_w = (energy_j - last_j) / (now_ns - t_last_ns) * 1e9
        return [(energy_j, ReadStatus.OK), (mean_w, ReadStatus.OK)]

    def watch(self, pids: Sequence[int]) -> None:
        self._tree.watch(pids)

    def facts(self) -> Mapping[str, Any]:
        return {
            "cores": self._cores,
            "idle_w_per_core": self._options.idle_w_per_core,
            "busy_w_per_core": self._options.busy_w_per_core,
            "watched": sorted(self._tree.roots),
            "cpu_s": self._tree.total_s,
        }

    def close(self) -> None:
        pass


PLUGIN: type[PowerSource] = CpuModel
