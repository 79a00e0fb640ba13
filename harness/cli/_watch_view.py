"""Draws what is watched: a table that renews itself on a terminal, lines on a pipe."""

from __future__ import annotations

import threading
import time
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
_SILENT_S: Final = 10.0
"""A source whose newest reading is older than this is said to have fallen silent."""


def watch(source: Source, stop: threading.Event, *, every_s: float | None) -> None:
    """
    Look at *source* until it ends or *stop* is set.

    A look that fails is said and tried again, except the very first; what was read
    before it is not shown as if it were of now.

    Args:
        source: opened.
        stop: ends it.
        every_s: seconds between looks; None: 1 on a terminal, 5 elsewhere.

    Raises:
        JoulemarkError: the first look fails, or it is not what it should be.
    """
    console = Console(highlight=False)
    looks = _Looks(source)
    looks.board.take(source.read())
    if not console.is_terminal:
        click.echo(f"joulemark: watching {source.title}")
        while True:
            click.echo(f"joulemark: {looks.problem or _line(looks.board)}")
            if looks.ended or stop.wait(every_s or _PIPE_S):
                return
            looks.look()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_picture(source.title, looks, console.width), refresh=True)
            if looks.ended or stop.wait(every_s or _TERMINAL_S):
                return
            looks.look()


class _Looks:
    """One look after another at a source, and what was wrong with the last."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._new_s = time.monotonic()
        self.board = Board()
        self.problem = ""

    @property
    def ended(self) -> bool:
        return self.board.reading is not None and self.board.reading.ended

    def look(self) -> None:
        before = self.board.reading
        try:
            reading = self._source.read()
        except ConfigError:
            raise
        except JoulemarkError as error:
            self.problem = str(error)
            return
        self.board.take(reading)
        self.problem = ""
        now_s = time.monotonic()
        if before is None or reading.t_s != before.t_s or reading.state != before.state:
            self._new_s = now_s
        elif now_s - self._new_s > _SILENT_S:
            self.problem = f"nothing new for {span(now_s - self._new_s)}"


def _line(board: Board) -> str:
    parts = [_state(board)]
    for shown in board.rows:
        words = [watts_text(shown.row.name, _watts(shown), shown.row.kind)]
        words += [one for one in (_rate(shown), joules_text(shown.track), shown.row.note) if one]
        parts.append(", ".join(words))
    return "; ".join(part for part in [*parts, *_notes(board.reading)] if part)


def _picture(title: str, looks: _Looks, width: int) -> Group:
    board, problem = looks.board, looks.problem
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
        # Of a look that failed there are no watts, and the last ones are not those of now.
        watts, per_s = (None, None) if problem else (_watts(shown), shown.rate.per_s)
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
