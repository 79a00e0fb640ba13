"""What a walk is made of: steps with their formula, numbers and tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table: its head, and rows of as many cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One step of the walk.

    Args:
        title: what is asked.
        text: paragraphs.
        formula: with its number in `docs/cost.md`; empty if there is none.
        worked: the same with this case's numbers.
        grids: tables.
        inputs: names of the case's figures it uses, for the list of sources.
    """

    title: str
    text: tuple[str, ...] = ()
    formula: str = ""
    worked: str = ""
    grids: tuple[Grid, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The whole: a title, what it is about, and its steps."""

    title: str
    about: tuple[str, ...]
    steps: tuple[Step, ...]
