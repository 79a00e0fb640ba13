"""Says how much of each GPU each engine's processes use, from NVML's per-process figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from .readings import Usage

_PERCENT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """One process on one GPU; a share is None where the driver does not say."""

    pid: int
    sm_ratio: float | None
    memory_bytes: float | None


def owner_of(pid: int, roots: Mapping[int, str], *, proc: Path = Path("/proc")) -> str | None:
    """
    The engine that started a process, by its ancestors; None: none of ours did.

    Args:
        pid: of the process.
        roots: main process of an engine → its name.
        proc: where procfs is; another folder in tests.
    """
    seen = 0
    while pid > 1 and seen < 64:  # noqa: PLR2004 - deeper than any real tree
        if pid in roots:
            return roots[pid]
        try:
            text = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        # The name, in brackets, may hold spaces and brackets itself.
        pid = int(text.rpartition(")")[2].split()[1])
        seen += 1
    return None


def gather(
    processes: Sequence[ProcessUse], roots: Mapping[int, str], *, proc: Path = Path("/proc")
) -> tuple[dict[str, Usage], float]:
    """
    One GPU's use by engine, and the SM share of processes that are no engine's.

    Args:
        processes: on the GPU.
        roots: main process of an engine → its name.
        proc: where procfs is.
    """
    found: dict[str, Usage] = {}
    foreign = 0.0
    for process in processes:
        owner = owner_of(process.pid, roots, proc=proc)
        if owner is None:
            foreign += process.sm_ratio or 0.0
            continue
        before = found.get(owner, Usage())
        found[owner] = Usage(
            sm_ratio=_sum(before.sm_ratio, process.sm_ratio),
            memory_bytes=_sum(before.memory_bytes, process.memory_bytes),
        )
    return found, foreign


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


@dataclass(slots=True)
class NvmlProcesses:
    """
    NVML's list of processes, asked every few seconds.

    Needs no privilege for the caller's own processes; for other users' the driver
    may hide the figures, and inside a PID namespace it shows the host's ids.
    """

    _since_us: dict[str, int] = field(default_factory=dict)

    def open(self) -> bool:
        """Start NVML; False: there is none here."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return False
        return True

    def read(self, uuid: str) -> list[ProcessUse]:
        """Processes of one GPU; empty where the driver does not say."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            return []
        busy: dict[int, list[float]] = {}
        since_us = self._since_us.get(uuid, int((time.time() - 2) * 1e6))
        # Not found: no process did anything since; not supported: MIG. Either way no share.
        readable = False
        with contextlib.suppress(pynvml.NVMLError):
            for sample in pynvml.nvmlDeviceGetProcessUtilization(handle, since_us):
                busy.setdefault(sample.pid, []).append(sample.smUtil / _PERCENT)
                self._since_us[uuid] = max(self._since_us.get(uuid, 0), sample.timeStamp)
                readable = True
        return [
            ProcessUse(
                pid=one.pid,
                sm_ratio=_mean(busy.get(one.pid, [])) if readable else None,
                memory_bytes=None if one.usedGpuMemory is None else float(one.usedGpuMemory),
            )
            for one in running
        ]

    def close(self) -> None:
        """Let go of NVML."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
