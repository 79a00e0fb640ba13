"""One self-contained HTML page of one run or many: verdicts and findings first, then pictures."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters._charts import Chart, figure
from exporters._of_run import latency_charts, time_charts
from exporters._of_runs import Anchor, history_chart, pareto_charts
from exporters._page import card, document, table
from exporters._text import interval_of, kind_of, number, title_of
from harness.contracts import Exporter
from harness.files import write_atomically
from harness.metrics import BOUNDARIES, boundary_of, card_of
from harness.record import RunRecord

MOST_DRAWN: Final = 8
"""Runs whose power is drawn over time; of more, only their numbers are shown."""
_CARDS: Final = (
    "{boundary}_j_per_output_token",
    "{boundary}_average_w",
    "output_throughput_tok_per_s",
    "ttft_s.p50",
    "interactivity_tok_per_s.p50",
    "{boundary}_energy_usd_per_mtok_output",
)
_MAIN: Final = (
    "engine.engine", "engine.version", "engine.weights", "engine.model", "machine.cpu",
    "machine.kernel", "workload.kind", "load.pattern", "load.concurrency", "power.sources",
    ".driver", ".name", ".power_limit_w", ".vbios", "config.seed",
)  # fmt: skip
_ORDER: Final = ("invalid", "warning", "info")
_UNDRAWN: Final = "Nothing to draw: the folder holds no readings."


@dataclass(frozen=True, slots=True, kw_only=True)
class Html:
    """The page of a single run, in its folder."""

    file_name: str = "report.html"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the page, replacing an older one whole."""
        path = folder / self.file_name
        write_atomically(path, page([(record, folder)]).encode())
        return path


def page(
    runs: Sequence[tuple[RunRecord, Path | None]],
    *,
    anchors: Sequence[Anchor] = (),
    extra: Sequence[tuple[str, str, str]] = (),
) -> str:
    """
    The page of runs.

    Args:
        runs: record and folder; without a folder nothing is drawn over time.
        anchors: published points, drawn in grey and labelled.
        extra: further sections, (id, heading, HTML), put after the findings.

    Returns:
        HTML that needs nothing but itself.
    """
    records = [record for record, _ in runs]
    one = len(records) == 1
    sections = [("findings", "Findings", _findings(records)), *extra]
    if one:
        sections.append(("provenance", "Where it comes from", _provenance(records[0])))
    else:
        sections.append(("runs", "Runs", _runs(records)))
        charts = pareto_charts(records, anchors)
        if charts:
            sections.append(("pareto", "What is bought with what", _figures(charts)))
    for place, (record, folder) in enumerate(runs[:MOST_DRAWN]):
        if folder is None:
            continue
        drawn = [
            *time_charts(record, folder, f"run{place}"),
            *latency_charts(record, folder, f"run{place}"),
        ]
        heading = "Over time, and latencies" if one else record.run_id
        sections.append((f"run{place}-drawn", heading, _figures(drawn) or f"<p>{_UNDRAWN}</p>"))
    if one:
        sections.append(("metrics", "All metrics", _metrics(records[0])))
    title = records[0].run_id if one else f"{len(records)} runs"
    return document(f"joulemark: {title}", sections, _intro(records))


def history_page(series: Sequence[Mapping[str, Any]]) -> str:
    """
    The page of metrics over time.

    Args:
        series: as `joulemark history show --json` prints them.
    """
    sections = []
    for place, one in enumerate(series):
        rows = [
            [f"{point['effect']['ratio'] - 1:+.2%}", one["run_ids"][point["index"]],
             "; ".join(f"{s['key']}: {', '.join(s['base'])} → {', '.join(s['cand'])}" for s in why)]
            for point, why in zip(one["changes"], one["suspects"], strict=True)
        ]  # fmt: skip
        changes = (
            table(["change of level", "from run", "what changed with it"], rows, words=True)
            if rows
            else "<p>No change of level found.</p>"
        )
        body = figure(history_chart(one, f"history{place}")) + changes
        sections.append((f"s{place}", f"{one['name']}: {one['metric']}", body))
    return document("joulemark: history", sections, "")


def _figures(charts: Sequence[Chart]) -> str:
    return "".join(figure(one) for one in charts)


def _intro(records: Sequence[RunRecord]) -> str:
    if len(records) > 1:
        kinds = ", ".join(sorted({kind_of(record).upper() for record in records}))
        return f'<p>{len(records)} runs; power: <span class="badge">{html.escape(kinds)}</span></p>'
    record = records[0]
    worst = next((s for s in _ORDER if any(f.severity == s for f in record.findings)), None)
    trust = {
        "invalid": "do not use the energy numbers: see the findings",
        "warning": "read with care: see the findings",
        "info": "nothing speaks against the numbers; there are notes",
        None: "nothing speaks against the numbers",
    }[worst]
    cards = [
        card(title_of(key), f"{number(value.value)} {value.unit}", _notes(record, key))
        for key in _card_keys(record)
        if (value := record.metrics.get(key)) is not None
    ]
    return (
        f'<p>{html.escape(record.status)}; power <span class="badge">'
        f"{html.escape(kind_of(record).upper())}</span>; "
        f'<span class="{worst or "info"}">{html.escape(trust)}</span></p>'
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _card_keys(record: RunRecord) -> list[str]:
    present = {boundary_of(key) for key in record.metrics}
    boundaries = [one for one in BOUNDARIES if one in present and one != "gpu_memory"]
    return list(
        dict.fromkeys(
            template.format(boundary=one) for template in _CARDS for one in (boundaries or [""])
        )
    )


def _notes(record: RunRecord, key: str) -> list[str]:
    value = record.metrics[key]
    boundary = boundary_of(key)
    notes = [interval_of(value)]
    if value.interval:
        notes.append(value.interval)
    if boundary is not None:
        notes.append(f"boundary: {boundary.replace('_', ' ')}; power {kind_of(record).upper()}")
    if "output_token" in key:
        notes.append("basis: output tokens; the energy of the input is in it")
    return notes


def _findings(records: Sequence[RunRecord]) -> str:
    rows = [
        (finding.severity, finding.code, finding.message, record.run_id)
        for record in records
        for finding in record.findings
    ]
    if not rows:
        return "<p>None.</p>"
    rows.sort(key=lambda row: _ORDER.index(row[0]))
    if len(records) == 1:
        items = "".join(
            f'<li><strong class="{severity}">{severity}</strong> <code>{html.escape(code)}</code>: '
            f"{html.escape(message)}</li>"
            for severity, code, message, _ in rows
        )
        return f"<ul>{items}</ul>"
    # A thousand runs say the same few things: each is shown once, with how many say it.
    grouped: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for severity, code, message, run_id in rows:
        grouped.setdefault((severity, code), []).append((message, run_id))
    lines = [
        [severity, code, str(len(said)), said[0][0], said[0][1]]
        for (severity, code), said in grouped.items()
    ]
    return table(["severity", "code", "runs", "e.g.", "in"], lines, words=True)


def _provenance(record: RunRecord) -> str:
    anchor = record.provenance.get("anchor", {}).get("t_wall_ns")
    begun = (
        f"{dt.datetime.fromtimestamp(anchor / 1e9, tz=dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
        if anchor
        else "not recorded"
    )
    chosen = ("joulemark", "machine", "engine", "python", "packages")
    power = record.provenance.get("power", {}).get("at_start", {})
    known = {key: record.provenance[key] for key in chosen if key in record.provenance}
    rows = _flat({"config": record.config, **known, "power": power})
    short = [["begun", begun], *(row for row in rows if row[0].endswith(_MAIN))]
    return (
        table(["what", "value"], short, words=True)
        + "<details><summary>Everything that was recorded about it</summary>"
        + table(["what", "value"], rows, words=True)
        + "</details>"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append([f"{prefix}{key}", "not known" if value is None else str(value)])
    return rows


def _runs(records: Sequence[RunRecord]) -> str:
    keys = [
        key
        for key in dict.fromkeys(key for record in records[:50] for key in _card_keys(record))
        if any(key in record.metrics for record in records)
    ]
    head = ["run", "power", *(f"{title_of(key)} ({card_of(key).unit})" for key in keys)]
    rows = [
        [record.run_id, kind_of(record).upper(), *(_cell(record, key) for key in keys)]
        for record in records
    ]
    return table(head, rows)


def _cell(record: RunRecord, key: str) -> str:
    value = record.metrics.get(key)
    return "not available" if value is None else number(value.value)


def _metrics(record: RunRecord) -> str:
    rows = [
        [
            title_of(key),
            f"{number(value.value)} {value.unit}",
            interval_of(value),
            str(value.n),
            key,
        ]
        for key, value in record.metrics.items()
    ]
    return table(["metric", "value", "interval", "n", "key"], rows)


PLUGIN: type[Exporter] = Html
