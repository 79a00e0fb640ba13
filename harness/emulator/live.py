"""A power that a running process writes and every client of the emulator follows."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from .waveform import Waveform

RECORD_DTYPE: Final = np.dtype([("t_ns", "<i8"), ("power_w", "<f8")])
"""From t_ns (CLOCK_MONOTONIC) on the power is power_w: 16 bytes, appended whole."""


class LiveWriter:
    """
    Appends to a live file.

    Each record takes effect *lead_s* after it is written, so that no client has
    passed that instant yet and all of them see the same past.
    """

    def __init__(self, path: Path, *, lead_s: float = 0.01) -> None:
        self._file = path.open("ab", buffering=0)
        self._lead_ns = round(lead_s * 1e9)

    def set_power_w(self, power_w: float) -> int:
        """Let the power be *power_w* from a little later on; returns that instant."""
        t_ns = time.perf_counter_ns() + self._lead_ns
        self._file.write(np.array([(t_ns, power_w)], dtype=RECORD_DTYPE).tobytes())
        return t_ns

    def close(self) -> None:
        """Close the file; the last power holds for ever."""
        self._file.close()


def with_records(waveform: Waveform, *, origin_ns: int) -> Waveform:
    """Return *waveform* with the records its live file holds by now; as it is without one."""
    if waveform.live is None or not waveform.live.exists():
        return waveform
    data = waveform.live.read_bytes()
    whole = len(data) // RECORD_DTYPE.itemsize * RECORD_DTYPE.itemsize
    records = np.frombuffer(data[:whole], dtype=RECORD_DTYPE)
    start_ns, power_w = [0], [float(waveform.first_w[0])]
    for record in records:
        t_ns = int(record["t_ns"]) - origin_ns
        # Out of order or before the origin: ignored, as in nvml.c.
        if t_ns > start_ns[-1]:
            start_ns.append(t_ns)
            power_w.append(float(record["power_w"]))
    level_w = np.array(power_w)
    return dataclasses.replace(
        waveform, start_ns=np.array(start_ns, dtype=np.int64), first_w=level_w, last_w=level_w
    )
