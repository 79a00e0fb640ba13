"""Small pieces of Markdown: a table, a number, a share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Head and rows; None is an empty cell."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |"


def number(value: Any, digits: int = 2) -> str | None:  # noqa: ANN401 - a number or nothing
    """With so many digits; None stays none."""
    return None if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 2) -> str | None:
    """A deviation: with its sign."""
    return None if value is None else f"{value:+.{digits}%}"


def share(value: float | None, digits: int = 1) -> str | None:
    """A part of a whole, in percent."""
    return None if value is None else f"{value:.{digits}%}"
