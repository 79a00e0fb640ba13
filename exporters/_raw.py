"""Reads what a page draws from a run folder: watts and tokens over time, phases, latencies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.parquet as pq

from harness.journal import read_journal
from harness.timeline import EVENT_DTYPE, POWER_DTYPE, EventKind

Floats = npt.NDArray[np.float64]
_BINS: Final = 120
_BIN_S: Final = 0.5
"""A narrower bin would show the engine's steps, not its rate."""
_NS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """
    What there is to draw; empty where the folder has it not.

    Args:
        zero_ns: instant 0 of all times.
        watts: channel → (seconds, watts).
        tokens: (seconds, tokens a second), or chunks where the server gave no running count.
        tokens_are: `tokens` or `chunks`.
        phases: (name, start, end), seconds.
        latencies: name → seconds, of requests that succeeded.
    """

    zero_ns: int
    watts: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    tokens: tuple[Floats, Floats] | None = None
    tokens_are: str = "tokens"
    phases: Sequence[tuple[str, float, float]] = ()
    latencies: Mapping[str, Floats] = field(default_factory=dict)


def read_raw(folder: Path) -> Raw:
    """Read a run folder, sealed or not."""
    marks = _marks(folder / "marks.jsonl")
    header, power = _records(folder / "power.journal", POWER_DTYPE)
    _, events = _records(folder / "tokens.journal", EVENT_DTYPE)
    starts = [int(power["t_before_ns"].min())] if len(power) else []
    starts += [int(events["t_ns"].min())] if len(events) else []
    zero = min([*starts, *(mark["t_ns"] for mark in marks)], default=0)
    return Raw(
        zero_ns=zero,
        watts=_watts(header, power, zero),
        tokens=_rate(events, zero),
        tokens_are="tokens" if _counted(events) else "chunks",
        phases=_phases(marks, zero),
        latencies=_latencies(folder),
    )


def _watts(
    header: Mapping[str, Any], power: npt.NDArray[Any], zero: int
) -> dict[str, tuple[Floats, Floats]]:
    found = {}
    for place, channel in enumerate(header.get("channels", ())):
        own = power[(power["channel"] == place) & (power["status"] == 0)]
        if len(own) < 2:  # noqa: PLR2004 - nothing to draw
            continue
        middle = (own["t_before_ns"] + own["t_after_ns"]) / 2
        seconds = (middle - zero) / _NS
        kind = "" if channel["power_kind"] == "measured" else f" ({channel['power_kind'].upper()})"
        name = f"{channel['boundary'].replace('_', ' ')}, {channel['sense']}{kind}"
        if channel["quantity"] == "energy":
            seconds, values = _slope(seconds, own["value"])
        else:
            values = own["value"]
        if name in found:
            name = f"{name}, {channel['device']}"
        found[name] = (seconds, values)
    return found


def _slope(seconds: Floats, joules: Floats) -> tuple[Floats, Floats]:
    """Mean watts between moves of a counter."""
    moved = np.flatnonzero(np.diff(joules) > 0) + 1
    at, of = seconds[moved], joules[moved]
    if len(at) < 2:  # noqa: PLR2004 - no slope
        return seconds[:0], joules[:0]
    # A tick stands for a step, so it is averaged over at least a half second.
    every = max(1, int(np.ceil(0.5 / max(float(np.median(np.diff(at))), 1e-6))))
    at, of = at[::every], of[::every]
    return (at[1:] + at[:-1]) / 2, np.diff(of) / np.diff(at)


def _counted(events: npt.NDArray[Any]) -> bool:
    """Whether every chunk carries the server's running count of tokens."""
    return bool((events["tokens"][events["kind"] == EventKind.CHUNK] >= 0).all())


def _rate(events: npt.NDArray[Any], zero: int) -> tuple[Floats, Floats] | None:
    chunks = events[events["kind"] == EventKind.CHUNK]
    if len(chunks) < 2:  # noqa: PLR2004 - no rate
        return None
    chunks = chunks[np.lexsort((chunks["t_ns"], chunks["request"]))]
    weights = np.ones(len(chunks))
    if _counted(events):
        first = np.r_[True, np.diff(chunks["request"]) != 0]
        weights = np.where(first, chunks["tokens"], np.diff(chunks["tokens"], prepend=0))
    seconds = (chunks["t_ns"] - zero) / _NS
    bins = int(np.clip((seconds.max() - seconds.min()) / _BIN_S, 5, _BINS))
    counts, edges = np.histogram(seconds, bins=bins, weights=weights)
    return (edges[1:] + edges[:-1]) / 2, counts / (edges[1] - edges[0])


def _phases(marks: Sequence[Mapping[str, Any]], zero: int) -> list[tuple[str, float, float]]:
    at = {mark["mark"]: (mark["t_ns"] - zero) / _NS for mark in marks}
    named = (("loaded idle", "loaded_idle"), ("measured phase", "measure"))
    return [
        (name, at[f"{key}_start"], at[f"{key}_end"])
        for name, key in named
        if f"{key}_start" in at and f"{key}_end" in at
    ]


def _latencies(folder: Path) -> dict[str, Floats]:
    path = folder / "requests.parquet"
    if path.exists():
        rows = pq.read_table(path).to_pylist()
    elif (folder / "requests.jsonl").exists():
        rows = _marks(folder / "requests.jsonl")
    else:
        return {}
    good = [
        row for row in rows
        if row["phase"] == "measure" and row["error_kind"] is None
        and row["t_first_ns"] is not None and row["t_sent_ns"] is not None
    ]  # fmt: skip
    found = {
        "ttft_s": [(row["t_first_ns"] - row["t_sent_ns"]) / _NS for row in good],
        "e2e_s": [(row["t_end_ns"] - row["t_sent_ns"]) / _NS for row in good],
        "tpot_s": [
            (row["t_end_ns"] - row["t_first_ns"]) / _NS / (row["osl_tokens"] - 1)
            for row in good
            if (row["osl_tokens"] or 0) > 1
        ],
    }
    return {name: np.array(sorted(values)) for name, values in found.items() if values}


def _records(journal: Path, dtype: np.dtype[Any]) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    sealed = journal.with_suffix(".parquet")
    if sealed.exists():
        table = pq.read_table(sealed)
        records = np.zeros(table.num_rows, dtype=dtype)
        for name in table.column_names:
            records[name] = table[name].to_numpy()
        return orjson.loads((table.schema.metadata or {}).get(b"joulemark", b"{}")), records
    if journal.exists():
        header, records, _ = read_journal(journal, dtype)
        return header, records
    return {}, np.zeros(0, dtype=dtype)


def _marks(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [orjson.loads(line) for line in re.split(rb"\n", whole) if line]
