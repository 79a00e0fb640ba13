"""Prints a comparison as a table for people."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.compare import text
from harness.compare.comparison import Comparison
from harness.report import rounded

_COLOURS: Final = {"worse": "bold red", "better": "green", "same": "green", "cannot tell": "yellow"}
_HEAD: Final = ("metric", "base", "candidate", "change", "interval", "p (Holm)", "verdict")
_WIDE: Final = 140


def print_comparison(found: Comparison, *, everything: bool = False) -> None:
    """
    Print what a comparison found.

    Args:
        found: the comparison.
        everything: also the metrics that were not judged.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDE
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(_HEAD):
        table.add_column(name, justify="left" if place in {0, 6} else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(
            text.title(row),
            rounded(row.base),
            f"{rounded(row.cand)} {row.unit}",
            text.change(row.judged.effect),
            text.interval(row.judged.effect),
            text.p_text(row),
            f"[{_COLOURS[row.judged.word]}]{row.judged.word}[/]",
        )
    if everything:
        for key, one in found.others.items():
            table.add_row(
                key, "", "", text.change(one), text.interval(one), "", "[dim]not judged[/]"
            )
    console.print(table)
    for row in found.rows:
        console.print(f"{row.key}: {escape(text.advice(row.judged))}")
    console.print("what changed:")
    for line in text.suspect_lines(found):
        console.print(escape(f"  {line}"))
    for finding in found.findings:
        console.print(f"[yellow]{finding.severity}[/] {finding.code}: {escape(finding.message)}")
    console.print(f"[{_COLOURS[found.word]}]{escape(text.headline(found))}[/]")
