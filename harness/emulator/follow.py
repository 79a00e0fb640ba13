"""Lets the emulated power follow how busy a live process tree keeps the CPU."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .live import LiveWriter

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def cpu_time_s(pid: int) -> float:
    """CPU seconds that *pid* and its living descendants have used, user and system."""
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for entry in _PROC.glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may itself hold blanks and brackets.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        number = int(entry.parent.name)
        parents[number] = int(fields[1])
        used_s[number] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return sum(used_s[number] for number in used_s if _descends(number, pid, parents))


def _descends(number: int, ancestor: int, parents: dict[int, int]) -> bool:
    while number > 1:
        if number == ancestor:
            return True
        number = parents.get(number, 0)
    return False


class CpuFollower:
    """Writes a new power every *period_s*, in a thread, until stopped."""

    def __init__(
        self, writer: LiveWriter, pid: int, *, idle_w: float, busy_w: float, period_s: float = 0.1
    ) -> None:
        self._writer = writer
        self._pid = pid
        self._idle_w = idle_w
        self._busy_w = busy_w
        self._period_s = period_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-cpu", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave the file as it is."""
        self._stopped.set()
        self._thread.join()
        self._writer.close()

    def _follow(self) -> None:
        cores = os.cpu_count() or 1
        before_s = cpu_time_s(self._pid)
        while not self._stopped.wait(self._period_s):
            now_s = cpu_time_s(self._pid)
            # A child that ended takes its time with it: that is no negative load.
            share = min(1.0, max(0.0, now_s - before_s) / (self._period_s * cores))
            before_s = now_s
            self._writer.set_power_w(self._idle_w + (self._busy_w - self._idle_w) * share)
