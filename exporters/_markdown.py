"""The same page as Markdown: its tables whole, its charts in words and by their data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporters import _facts
from exporters._chart_data import Chart, alternative
from exporters._of_run import latency_charts, time_charts
from exporters._of_runs import Anchor, pareto_charts
from exporters._scale import short
from exporters._text import kind_of
from harness.record import RunRecord

Section = tuple[str, str]
_MOST_ROWS: Final = 50
"""Points of a chart that are listed; of more, only what its text alternative says."""


def page(
    runs: Sequence[tuple[RunRecord, Path | None]],
    *,
    anchors: Sequence[Anchor] = (),
    lead: Sequence[str] = (),
    extra: Sequence[Section] = (),
    most_drawn: int,
) -> str:
    """
    The page of runs.

    Args:
        runs: record and folder; without a folder nothing is said of its course.
        anchors: published points.
        lead: Markdown before everything else: a verdict.
        extra: further sections, (heading, Markdown), after findings and provenance.
        most_drawn: runs whose course is described.
    """
    records = [record for record, _ in runs]
    one = len(records) == 1
    kinds = ", ".join(sorted({kind_of(record).upper() for record in records}))
    title = records[0].run_id if one else f"{len(records)} runs"
    parts = [*lead, f"# {title}", f"Power: **{kinds}**.", "## Findings"]
    head, rows = _facts.grouped_findings(records)
    parts.append(table(head, rows) if rows else "None.")
    parts += ["## Where it comes from", table(["what", "value"], _facts.provenance(records))]
    for heading, text in extra:
        parts += [f"## {heading}", text]
    if not one:
        charts = pareto_charts(records, anchors)
        parts += ["## What is bought with what", *map(_chart, charts)] if charts else []
        parts += ["## Runs", table(*_facts.runs(records))]
    for record, folder in runs[:most_drawn]:
        drawn = (
            [*time_charts(record, folder, "run"), *latency_charts(record, folder, "run")]
            if folder
            else []
        )
        heading = "Over time, and latencies" if one else record.run_id
        parts += [f"## {heading}", *map(_chart, drawn)] if drawn else []
    if one:
        parts += ["## All metrics", table(*_facts.metrics(records[0]))]
    return "\n\n".join([*parts, ""])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table from texts."""
    lines = [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _chart(chart: Chart) -> str:
    parts = [f"### {chart.title}", alternative(chart)]
    rows = [
        [one.name, short(x), short(y)]
        for one in chart.lines
        if len(one.points) <= _MOST_ROWS
        for x, y in one.points
    ]
    if rows:
        parts.append(table(["series", chart.x_label, chart.y_label], rows))
    return "\n\n".join(parts)
