"""One self-contained HTML page of one run or many: verdicts and findings first, then pictures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters import _facts
from exporters._chart_data import Chart
from exporters._charts import figure
from exporters._of_run import latency_charts, time_charts
from exporters._of_runs import Anchor, history_chart, pareto_charts
from exporters._page import card, document, table
from exporters._text import interval_of, kind_of, number, title_of
from harness.contracts import Exporter
from harness.files import write_atomically
from harness.metrics import boundary_of
from harness.record import RunRecord

MOST_DRAWN: Final = 8
"""Runs whose power is drawn over time; of more, only their numbers are shown."""
_MOST_OPEN: Final = 50
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
    lead: Sequence[tuple[str, str, str]] = (),
    extra: Sequence[tuple[str, str, str]] = (),
) -> str:
    """
    The page of runs.

    Args:
        runs: record and folder; without a folder nothing is drawn over time.
        anchors: published points, drawn in grey and labelled.
        lead: sections, (id, heading, HTML), put before everything else: a verdict.
        extra: sections put after findings and provenance.

    Returns:
        HTML that needs nothing but itself.
    """
    records = [record for record, _ in runs]
    one = len(records) == 1
    sections = [
        *lead,
        ("findings", "Findings", _findings(records)),
        ("provenance", "Where it comes from", _provenance(records)),
        *extra,
    ]
    if not one:
        charts = pareto_charts(records, anchors)
        if charts:
            sections.append(("pareto", "What is bought with what", _figures(charts)))
        sections.append(("runs", "Runs", _runs(records)))
    for place, (record, folder) in enumerate(runs[:MOST_DRAWN]):
        if folder is None:
            continue
        drawn = [
            *time_charts(record, folder, f"run{place}"),
            *latency_charts(record, folder, f"run{place}"),
        ]
        heading = "Over time, and latencies" if one else record.run_id
        if drawn or one:
            sections.append((f"run{place}-drawn", heading, _figures(drawn) or f"<p>{_UNDRAWN}</p>"))
    if one:
        sections.append(("metrics", "All metrics", table(*_facts.metrics(records[0]))))
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
        sections.append((f"s{place}", f"{one['title']}: {one['metric']}", body))
    return document("joulemark: history", sections, "")


def _figures(charts: Sequence[Chart]) -> str:
    return "".join(figure(one) for one in charts)


def _intro(records: Sequence[RunRecord]) -> str:
    if len(records) > 1:
        kinds = ", ".join(sorted({kind_of(record).upper() for record in records}))
        return f'<p>{len(records)} runs; power: <span class="badge">{html.escape(kinds)}</span></p>'
    record = records[0]
    worst = next(
        (s for s in _facts.SEVERITIES if any(f.severity == s for f in record.findings)), None
    )
    if worst in {"info", None} and record.power_kind not in {"measured", None}:
        worst = "warning"
    trust = {
        "invalid": "do not use the energy numbers: see the findings",
        "warning": "read with care: see the findings, and of what kind the joules are",
        "info": "nothing speaks against the numbers; there are notes",
        None: "nothing speaks against the numbers",
    }[worst]
    cards = [
        card(title_of(key), f"{number(value.value)} {value.unit}", _notes(record, key))
        for key in _facts.card_keys(record)
        if (value := record.metrics.get(key)) is not None
    ]
    return (
        f'<p>{html.escape(record.status)}; power <span class="badge">'
        f"{html.escape(kind_of(record).upper())}</span>; "
        f'<span class="{worst or "info"}">{html.escape(trust)}</span></p>'
        f'<div class="cards">{"".join(cards)}</div>'
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
    if len(records) > 1:
        head, rows = _facts.grouped_findings(records)
        return table(head, rows, words=True) if rows else "<p>None.</p>"
    items = "".join(
        f'<li><strong class="{severity}">{severity}</strong> <code>{html.escape(code)}</code>: '
        f"{html.escape(message)}</li>"
        for severity, code, message, _ in _facts.findings(records)
    )
    return f"<ul>{items}</ul>" if items else "<p>None.</p>"


def _provenance(records: Sequence[RunRecord]) -> str:
    """What the runs are of: the main facts, and everything of the first that opens."""
    whose = "it" if len(records) == 1 else records[0].run_id
    rows = [list(row) for row in _facts.everything(records[0]).items()]
    return (
        table(["what", "value"], _facts.provenance(records), words=True)
        + f"<details><summary>Everything that was recorded about {html.escape(whose)}</summary>"
        + table(["what", "value"], rows, words=True)
        + "</details>"
    )


def _runs(records: Sequence[RunRecord]) -> str:
    head, rows = _facts.runs(records)
    if len(rows) <= _MOST_OPEN:
        return table(head, rows)
    return (
        table(head, rows[:_MOST_OPEN], caption=f"The first {_MOST_OPEN} of {len(rows)}")
        + f"<details><summary>The other {len(rows) - _MOST_OPEN}</summary>"
        + table(head, rows[_MOST_OPEN:])
        + "</details>"
    )


PLUGIN: type[Exporter] = Html
