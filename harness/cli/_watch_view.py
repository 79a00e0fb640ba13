"""Draws what is watched: a table that renews itself on a terminal, lines on a pipe."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.cli._live_text import joules_text, span, sparkline, watts_text
from harness.errors import ConfigError, JoulemarkError
from harness.watch.reading import Board

if TYPE_CHECKING:
    from harness.watch.reading import Reading, Shown, Source

_TERMINAL_S: Final = 1.0
_PIPE_S: Final = 5.0
_NARROW: Final = 100


def watch(source: Source, stop: threading.Event, *, every_s: float | None) -> None:
    """
    Look at *source* until it ends or *stop* is set.

    A look that fails is said and tried again, except the very first.

    Args:
        source: opened.
        stop: ends it.
        every_s: seconds between looks; None: 1 on a terminal, 5 elsewhere.

    Raises:
        JoulemarkError: the first look fails, or it is not what it should be.
    """
    console = Console(highlight=False)
    board = Board()
    board.take(source.read())
    if not console.is_terminal:
        _lines(source, board, stop, every_s or _PIPE_S)
        return
    problem = ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_picture(source.title, board, problem, console.width), refresh=True)
            if board.reading is None or board.reading.ended or stop.wait(every_s or _TERMINAL_S):
                return
            problem = _look(source, board)


def _lines(source: Source, board: Board, stop: threading.Event, every_s: float) -> None:
    click.echo(f"joulemark: watching {source.title}")
    while True:
        click.echo(f"joulemark: {_line(board)}")
        if board.reading is None or board.reading.ended or stop.wait(every_s):
            return
        problem = _look(source, board)
        if problem:
            click.echo(f"joulemark: {problem}", err=True)


def _look(source: Source, board: Board) -> str:
    try:
        board.take(source.read())
    except ConfigError:
        raise
    except JoulemarkError as error:
        return str(error)
    return ""


def _line(board: Board) -> str:
    parts = [_state(board)]
    for shown in board.rows:
        words = [watts_text(shown.row.name, _watts(shown), shown.row.kind)]
        words += [one for one in (_rate(shown), joules_text(shown.track), shown.row.note) if one]
        parts.append(", ".join(words))
    return "; ".join(part for part in [*parts, *_notes(board.reading)] if part)


def _picture(title: str, board: Board, problem: str, width: int) -> Group:
    wide = width >= _NARROW
    table = Table(box=None, pad_edge=False)
    table.add_column("what", overflow="ellipsis", no_wrap=True, max_width=40 if wide else 22)
    table.add_column("power", no_wrap=True)
    table.add_column("W", justify="right", no_wrap=True)
    if wide:
        table.add_column("watts so far, from 0", no_wrap=True)
    table.add_column("tok/s", justify="right", no_wrap=True)
    table.add_column("J/token so far", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    for shown in board.rows:
        row = shown.row
        # A column of its own: a name may be cut to fit, this word may not.
        kind = Text("measured") if row.kind == "measured" else Text(row.kind.upper(), "bold yellow")
        watts, per_s = _watts(shown), shown.rate.per_s
        cells: list[str | Text] = [Text(row.name), kind, "?" if watts is None else f"{watts:,.1f}"]
        if wide:
            cells.append(sparkline(shown.track.watts))
        cells += [
            "" if per_s is None else f"{per_s:,.1f}",
            joules_text(shown.track).removesuffix(" so far").replace(" J/token", ""),
            Text(row.note),
        ]
        table.add_row(*cells)
    head = Text(title, style="bold")
    head.append(f"  {_state(board)}", style="not bold")
    lines = [Text(one, style="yellow") for one in _notes(board.reading)]
    if problem:
        lines.append(Text(problem, style="bold red"))
    return Group(head, table, *lines, Text("Ctrl-C ends it", style="dim"))


def _state(board: Board) -> str:
    state = "" if board.reading is None else board.reading.state
    return " ".join(word for word in (state, span(board.elapsed_s)) if word)


def _notes(reading: Reading | None) -> tuple[str, ...]:
    return () if reading is None else reading.notes


def _watts(shown: Shown) -> float | None:
    return shown.track.watts[-1] if shown.track.watts else None


def _rate(shown: Shown) -> str:
    return "" if shown.rate.per_s is None else f"{shown.rate.per_s:,.1f} tok/s"
