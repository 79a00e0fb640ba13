"""Prints a record as a table for people."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness import report
from harness.record import RunRecord

_COLOURS = {"invalid": "red", "warning": "yellow", "info": "dim"}


def print_record(record: RunRecord, folder: Path, *, to_stderr: bool = False) -> None:
    """
    Print what a run found.

    Args:
        record: the run's record.
        folder: its folder, named at the end.
        to_stderr: because stdout carries JSON.
    """
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    tokens = record.tokens
    engine = record.provenance["engine"]
    console.print(
        f"\n[bold]{record.run_id}[/]  {engine['engine']} {engine['version'] or ''}  "
        f"{record.status}, {tokens['requests']} requests, "
        f"{'no' if tokens['usage'] is None else tokens['usage']} output tokens"
    )
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True, style="dim")
    for row in report.summary(record):
        table.add_row(row.title, row.value, row.interval)
    console.print(table)
    console.print(report.power_sentence(record), style=_power_style(record))
    for severity in ("invalid", "warning", "info"):
        for finding in record.findings:
            if finding.severity == severity:
                console.print(
                    f"[{_COLOURS[severity]}]{severity}[/] {finding.code}: {finding.message}",
                    markup=True,
                )
    console.print(f"report: {folder / 'report.md'}")


def _power_style(record: RunRecord) -> str:
    return "" if record.power_kind == "measured" else "bold yellow"
