"""Plays a recorded journal back, reading by reading, as a power source of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import PowerUnavailableError, StoreError
from harness.journal import read_journal
from harness.timeline import POWER_DTYPE, Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.clock import Clock


class Recording:
    """
    A session that answers with what the journal's sensor said at the same moment of its recording.

    The recording begins when the session is opened. A value shows from the end of the call that
    first gave it, so nothing is known between two recorded readings that was not known then.
    Behind the recording's end every reading is stale.

    Args:
        path: a sampler's journal, e.g. `power.jmj`.
        clock: says how far the playback has got.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        try:
            header, records, _ = read_journal(path, POWER_DTYPE)
        except StoreError as error:
            raise PowerUnavailableError(error.problem, remedy=error.remedy) from error
        if not len(records):
            raise PowerUnavailableError(
                f"{path} holds no reading", remedy="name the journal of a run that was sampled"
            )
        self._clock = clock
        self._t_open_ns = clock.now_ns()
        self._first_ns = int(records["t_before_ns"].min())
        self._last_ns = int(records["t_after_ns"].max())
        self._rows = [
            records[records["channel"] == number] for number in range(len(header["channels"]))
        ]
        self.period_s: float | None = None
        self.calls: list[tuple[Channel, ...]] = []
        for fields in header["channels"]:
            recorded = Channel(**fields)
            # Whatever it was when it was recorded: now it is played.
            channel = dataclasses.replace(
                recorded,
                name=f"scripted:{recorded.name}",
                power_kind="emulated",
                method=f"played back from {path.name}: {recorded.method} ({recorded.power_kind})",
            )
            self.calls.append((channel,))
        self._facts = {"driver": "scripted", "recording": path.name}

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return (self._last_ns - self._first_ns) / 1e9

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        """What the channel showed at this moment of the recording."""
        now_ns = self._first_ns + self._clock.now_ns() - self._t_open_ns
        rows = self._rows[call]
        if now_ns > self._last_ns or not len(rows):
            return [(math.nan, ReadStatus.STALE)]
        place = max(int(np.searchsorted(rows["t_after_ns"], now_ns, side="right")) - 1, 0)
        status = ReadStatus(int(rows["status"][place]))
        return [(float(rows["value"][place]), status)]

    def watch(self, pids: Sequence[int]) -> None:
        """Nothing: the recording does not depend on what runs now."""
        del pids

    def facts(self) -> Mapping[str, Any]:
        """Which recording it is."""
        return self._facts

    def close(self) -> None:
        """Nothing is open."""
