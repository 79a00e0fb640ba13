"""Prints what speaks for and against runs, the problems first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.checks import Check, Numbers
from harness.repeats import Precision, Trust
from harness.report import rounded

_COLOURS: Final = {"problem": "red", "unknown": "magenta", "note": "yellow", "good": "green"}
_WIDE: Final = 120


def print_trust(checked: Trust, numbers: Sequence[Numbers]) -> None:
    """
    Print the checks.

    Args:
        checked: what was found.
        numbers: which of them get a verdict, a line each, at the end.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    for run_id, checks in checked.runs.items():
        _print_checks(console, run_id, checks)
    several = len(checked.runs) > 1
    _print_checks(
        console, f"{len(checked.runs)} runs together" if several else "repeats", checked.together
    )
    if several:
        console.print(_precision(checked.precision, checked.half_width_ratio))
    for one in numbers:
        verdict = checked.verdict(one)
        colour = "bold red" if verdict.startswith("not") else "green"
        console.print(f"{one}: [{colour}]{verdict}[/]", soft_wrap=True)


def _print_checks(console: Console, title: str, checks: Sequence[Check]) -> None:
    console.print(f"[bold]{escape(title)}[/]")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=30)
    table.add_column(overflow="fold")
    for weight, colour in _COLOURS.items():
        for one in checks:
            if one.weight == weight:
                table.add_row(f"  [{colour}]{weight}[/]", one.code, escape(one.message))
    console.print(table)


def _precision(fixed: Sequence[Precision], wanted_ratio: float) -> Table:
    table = Table(box=None, pad_edge=False)
    heads = ("metric", "mean", "sd", "known to", f"runs for +-{wanted_ratio:.2%}")
    for place, name in enumerate(heads):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for one in fixed:
        table.add_row(
            one.key,
            rounded(one.mean),
            "-" if one.sd_ratio is None else f"{one.sd_ratio:.2%}",
            "-" if one.half_width_ratio is None else f"+-{one.half_width_ratio:.2%}",
            "-" if one.runs_needed is None else str(one.runs_needed),
        )
    return table
