"""The charts of one run: watts and tokens over time with phases and edges, latencies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from exporters._chart_data import Band, Chart, Line
from exporters._raw import Raw, read_raw
from harness.conditions import moved_counters
from harness.record import RunRecord

_QUANTILES: Final = 101


def time_charts(record: RunRecord, folder: Path, name: str) -> list[Chart]:
    """Watts and tokens a second over time; empty where nothing was recorded."""
    raw = read_raw(folder)
    bands = _bands(record, raw)
    throttled, said = _throttling(record)
    if throttled and raw.watts:
        ends = [x[-1] for x, _ in raw.watts.values() if len(x)]
        bands.append(Band(name=f"somewhere here: {throttled}", start=0, end=max(ends), alarm=True))
    note = f"Shaded: phases and the windows the numbers are of. {said}"
    charts = []
    if raw.watts:
        lines = [
            Line(name=channel, points=list(zip(x.tolist(), y.tolist(), strict=True)), style=place)
            for place, (channel, (x, y)) in enumerate(raw.watts.items())
        ]
        charts.append(
            Chart(
                name=f"{name}-power",
                title="Power over time",
                about=f"What each sensor read; a counter is drawn as the mean between its moves, "
                f"over half a second or more. {note}",
                x_label="time since the run began (s)",
                y_label="power (W)",
                lines=lines,
                bands=bands,
                x_from_zero=True,
            )
        )
    if raw.tokens is not None:
        x, y = raw.tokens
        charts.append(
            Chart(
                name=f"{name}-rate",
                title=f"Output {raw.tokens_are} over time",
                about="Counted in equal bins where they arrived. " + note,
                x_label="time since the run began (s)",
                y_label=f"rate ({raw.tokens_are}/s)",
                lines=[
                    Line(
                        name=f"output {raw.tokens_are}",
                        points=list(zip(x.tolist(), y.tolist(), strict=True)),
                        style=2,
                    )
                ],
                bands=bands,
                x_from_zero=True,
            )
        )
    return charts


def latency_charts(record: RunRecord, folder: Path, name: str) -> list[Chart]:
    """How latencies are distributed: share of requests that took at most so long."""
    del record
    titles = {
        "ttft_s": "Time to first token",
        "tpot_s": "Time per output token",
        "e2e_s": "End-to-end latency",
    }
    charts = []
    for place, (key, values) in enumerate(read_raw(folder).latencies.items()):
        points = _shares(values)
        charts.append(
            Chart(
                name=f"{name}-{key.replace('_', '-')}",
                title=titles[key],
                about=f"Share of the {len(values)} requests of the measured phase that succeeded "
                f"and took at most so long; median {np.median(values):.4g} s.",
                x_label=f"{key} (s)",
                y_label="requests (%)",
                lines=[Line(name=key, points=points, style=place)],
            )
        )
    return charts


def _shares(values: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """The share of values up to each, in percent: a step a value, or quantiles of many."""
    if len(values) > _QUANTILES:
        shares = np.linspace(0, 1, _QUANTILES)
        quantiles = np.quantile(values, shares)
        return list(zip(quantiles.tolist(), (100 * shares).tolist(), strict=True))
    rises = 100 * np.arange(len(values) + 1) / len(values)
    return [
        (value, float(rise))
        for place, value in enumerate(np.sort(values).tolist())
        for rise in rises[place : place + 2]
    ]


def _bands(record: RunRecord, raw: Raw) -> list[Band]:
    bands = [Band(name=name, start=start, end=end) for name, start, end in raw.phases]
    for window in record.windows:
        if window["name"] == "loaded_idle":
            continue
        energies = window["energies"] or [window]
        bands.append(
            Band(
                name=f"{window['name']} window",
                start=(energies[0]["start_ns"] - raw.zero_ns) / 1e9,
                end=(energies[0]["end_ns"] - raw.zero_ns) / 1e9,
                edges=True,
            )
        )
    return bands


def _throttling(record: RunRecord) -> tuple[str, str]:
    """Which throttle counters moved, for the band, and a sentence; NVML does not say when."""
    moved = moved_counters(record.provenance)
    if moved is None:
        return "", "Whether it was throttled is not known: no throttle counter was read."
    if not moved:
        return "", "No throttle counter moved during the run."
    named = ", ".join(f"{key} on {', '.join(gpus)}" for key, gpus in sorted(moved.items()))
    return f"throttled ({', '.join(sorted(moved))})", f"Throttled during the run: {named}."
