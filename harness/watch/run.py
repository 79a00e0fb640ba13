"""Looks at a run that is going, or has ended, by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from harness import store
from harness.timeline import EVENT_DTYPE, NOT_SAID, POWER_DTYPE, EventKind, ReadStatus

from .reading import Reading, Row
from .tail import JournalTail, LineTail

_STATES: Final[Mapping[str, str]] = {
    "engine_start": "start the engine",
    "engine_ready": "engine ready",
    "loaded_idle_start": "loaded idle",
    "loaded_idle_end": "warm up",
    "measure_start": "measure",
    "measure_end": "stop",
}
_SENSES: Final = ("counter", "instant", "mean", "average")


class Run:
    """
    A run folder, read on as its run appends to it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.title = folder.name
        self._folder = folder
        self._marks = LineTail(folder / store.MARKS)
        self._power = JournalTail(folder / store.POWER, POWER_DTYPE)
        self._events: dict[Path, JournalTail] = {}
        self._state = "begin"
        self._ended = ""
        self._measure_ns: int | None = None
        self._meters: dict[str, _Meter] = {}
        self._counts: dict[int, int] = {}
        self._requests: set[int] = set()
        self._t_ns = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def read(self) -> Reading:
        """What was appended since the last look."""
        for mark in self._marks.read():
            self._state = _STATES.get(mark["mark"], self._state)
            if mark["mark"] == "measure_start":
                self._measure_ns = mark["t_ns"]
            if mark["mark"] in {"complete", "interrupted"}:
                self._ended = str(mark.get("reason", "complete"))
        for path in (self._folder / store.EVENTS, *self._folder.glob("events.*")):
            tail = self._events.setdefault(path, JournalTail(path, EVENT_DTYPE))
            self._count(tail.read())
        self._integrate(self._power.read())
        measuring = self._state == "measure"
        tokens = float(sum(self._counts.values())) if measuring else None
        sealed = (self._folder / store.RECORD).exists()
        notes = [f"{len(self._requests)} requests begun"] if measuring else []
        if self._ended:
            notes.append(f"ended: {self._ended}; `joulemark show` has the numbers")
        return Reading(
            t_s=self._t_ns / 1e9,
            rows=tuple(
                Row(
                    name=boundary.replace("_", " "),
                    kind=meter.kind,
                    joules=meter.joules,
                    tokens=tokens,
                )
                for boundary, meter in self._meters.items()
            )
            # Without power there is still a rate of tokens.
            or ((Row(name="tokens", kind="measured", tokens=tokens),) if measuring else ()),
            state=self._state,
            notes=tuple(notes),
            ended=bool(self._ended) or sealed,
        )

    def _count(self, events: npt.NDArray[Any]) -> None:
        """The highest running count of each request, or its chunks where none was said."""
        if self._measure_ns is not None:
            events = events[events["t_ns"] >= self._measure_ns]
        if not len(events):
            return
        self._t_ns = max(self._t_ns, int(events["t_ns"].max()))
        chunks = events[events["kind"] == EventKind.CHUNK]
        self._requests.update(events["request"].tolist())
        for request, tokens in zip(
            chunks["request"].tolist(), chunks["tokens"].tolist(), strict=True
        ):
            before = self._counts.get(request, 0)
            self._counts[request] = before + 1 if tokens == NOT_SAID else max(before, tokens)

    def _integrate(self, records: npt.NDArray[Any]) -> None:
        header = self._power.header
        if header is None or not len(records):
            return
        if not self._meters:
            self._meters = _meters(header["channels"])
        good = records[records["status"] == ReadStatus.OK]
        for meter in self._meters.values():
            meter.take(good)
        if len(good):
            self._t_ns = max(self._t_ns, int(good["t_before_ns"].max()))


class _Meter:
    """Cumulative joules of one boundary: by its counters, else by trapezoids of one power."""

    def __init__(self, kind: str, channels: Mapping[int, str]) -> None:
        self.kind = kind
        self._channels = channels
        self._joules = dict.fromkeys(channels, 0.0)
        self._last: dict[int, tuple[int, float]] = {}

    @property
    def joules(self) -> float | None:
        """None until each of its channels has been read twice."""
        return sum(self._joules.values()) if len(self._last) == len(self._channels) else None

    def take(self, records: npt.NDArray[Any]) -> None:
        """Take in readings, in order of time within a channel."""
        for number, quantity in self._channels.items():
            own = records[records["channel"] == number]
            if not len(own):
                continue
            t_ns, values = own["t_before_ns"].astype(np.int64), own["value"]
            before = self._last.get(number)
            if before is not None:
                t_ns = np.concatenate([[before[0]], t_ns])
                values = np.concatenate([[before[1]], values])
            if quantity == "energy":
                # A counter that went back was reset; what it drew meanwhile is not known.
                moved = np.diff(values)
                self._joules[number] += float(moved[moved > 0].sum())
            else:
                steps_s = np.diff(t_ns) / 1e9
                self._joules[number] += float((steps_s * (values[1:] + values[:-1]) / 2).sum())
            self._last[number] = (int(t_ns[-1]), float(values[-1]))


def _meters(channels: list[dict[str, Any]]) -> dict[str, _Meter]:
    """For each boundary the best channel of each of its devices."""
    best: dict[str, dict[str, tuple[int, int]]] = {}
    for number, channel in enumerate(channels):
        rank = _SENSES.index(channel["sense"])
        devices = best.setdefault(channel["boundary"], {})
        devices[channel["device"]] = min(
            devices.get(channel["device"], (len(_SENSES), 0)), (rank, number)
        )
    return {
        boundary: _Meter(
            next(one["power_kind"] for one in channels if one["boundary"] == boundary),
            {number: channels[number]["quantity"] for _, number in devices.values()},
        )
        for boundary, devices in best.items()
    }
