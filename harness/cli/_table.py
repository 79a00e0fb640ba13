"""Prints a record as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import report
from harness.plural import counted
from harness.record import RunRecord

_WIDE: Final = 120
_COLOURS: Final = {"invalid": "red", "warning": "yellow", "info": "dim"}


def print_record(record: RunRecord, folder: Path, *, to_stderr: bool = False) -> None:
    """
    Print what a run found.

    Args:
        record: the run's record.
        folder: its folder, named at the end.
        to_stderr: because stdout carries JSON.
    """
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDE
    tokens = record.tokens
    engine, output = record.provenance["engine"], tokens["usage"]
    console.print(
        f"\n[bold]{record.run_id}[/]  {engine['engine']} {engine['version'] or ''}  "
        f"{record.status}, {counted(tokens['requests'], 'request')}, "
        + ("no output tokens" if output is None else counted(output, "output token"))
    )
    table = Table(show_edge=False, pad_edge=False, box=None, show_header=False)
    rows = report.summary(record)
    # The interval is the first to go on a narrow terminal; it is in the report in any case.
    wide = console.width >= _WIDE or not console.is_terminal
    for row in rows:
        cells = [row.title, row.value, row.interval] if wide else [row.title, row.value]
        table.add_row(*cells)
    justified: tuple[Literal["left", "right"], ...] = ("left", "right", "left")
    for column, justify in zip(table.columns, justified, strict=False):
        column.justify, column.no_wrap = justify, True
    console.print(table)
    console.print(report.power_sentence(record), style=_power_style(record))
    for severity in ("invalid", "warning", "info"):
        for finding in record.findings:
            if finding.severity == severity:
                console.print(
                    f"[{_COLOURS[severity]}]{severity}[/] {finding.code}: {escape(finding.message)}"
                )
    console.print(f"report: {folder / 'report.md'}")


def _power_style(record: RunRecord) -> str:
    return "" if record.power_kind == "measured" else "bold yellow"
