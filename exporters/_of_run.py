"""The charts of one run: watts and tokens over time with phases and edges, latencies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporters._charts import Band, Chart, Line
from exporters._raw import Raw, read_raw
from harness.record import RunRecord

_QUANTILES: Final = 101


def time_charts(record: RunRecord, folder: Path, name: str) -> list[Chart]:
    """Watts and tokens a second over time; empty where nothing was recorded."""
    raw = read_raw(folder)
    bands = _bands(record, raw)
    note = " ".join(["Shaded: phases and the windows the numbers are of.", *_throttling(record)])
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
        shares = np.linspace(0, 1, min(_QUANTILES, len(values)))
        points = list(
            zip(np.quantile(values, shares).tolist(), (100 * shares).tolist(), strict=True)
        )
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
            )
        )
    return bands


def _throttling(record: RunRecord) -> list[str]:
    """Which throttle counters moved during the run; NVML does not say when."""
    power = record.provenance.get("power", {})
    before, after = _counters(power.get("at_start", {})), _counters(power.get("facts_at_stop", {}))
    moved = sorted(
        f"{key} on {gpu}"
        for (gpu, key), value in after.items()
        if value > before.get((gpu, key), value)
    )
    if not after:
        return []
    if moved:
        return [f"Throttled during the run: {', '.join(moved)}."]
    return ["No throttle counter moved during the run."]


def _counters(facts: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    return {
        (gpu, key): value
        for source in facts.values()
        for gpu, values in source.get("gpus", {}).items()
        for key, value in (values.get("throttle_counters") or {}).items()
    }
