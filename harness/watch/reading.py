"""One look at something that is going on, and what a series of looks says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from harness.live import Rate, Track


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One meter or one model.

    Args:
        name: unique in a reading.
        kind: of its joules: measured, modelled or emulated.
        joules: cumulative; None: *watts* is all there is, or nothing is known now.
        watts: just now, where there is no counter.
        tokens: cumulative output tokens that its joules are of; None: of none that are known.
        note: a few words, e.g. how many requests run.
    """

    name: str
    kind: str
    joules: float | None = None
    watts: float | None = None
    tokens: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    One look.

    Args:
        t_s: when, on a clock of the source that does not step.
        rows: in the order to be shown.
        state: what it is doing, e.g. a run's phase; every count starts anew when it changes.
        notes: what a reader has to know.
        ended: there will be nothing new.
    """

    t_s: float
    rows: tuple[Row, ...]
    state: str = ""
    notes: tuple[str, ...] = ()
    ended: bool = False


class Source(Protocol):
    """Something that can be looked at again and again; a context manager."""

    title: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read(self) -> Reading:
        """
        Look now.

        Raises:
            JoulemarkError: it cannot be read; the next look may succeed.
        """
        ...


@dataclass(slots=True)
class Shown:
    """
    One row with its past.

    Args:
        row: as last read.
        track: of its joules and tokens.
        rate: of its tokens.
    """

    row: Row
    track: Track = field(default_factory=Track)
    rate: Rate = field(default_factory=Rate)


class Board:
    """What a series of looks at one source amounts to."""

    def __init__(self) -> None:
        self.shown: dict[str, Shown] = {}
        self.reading: Reading | None = None
        self._began_s = 0.0

    def take(self, reading: Reading) -> None:
        """Take one look into account; a row that is gone is shown no more."""
        if self.reading is None or reading.state != self.reading.state:
            self.shown = {}
            self._began_s = reading.t_s
        self.reading = reading
        self.shown = {row.name: self._followed(row, reading.t_s) for row in reading.rows}

    @property
    def elapsed_s(self) -> float:
        """Since the state began, or since the first look."""
        return 0.0 if self.reading is None else self.reading.t_s - self._began_s

    @property
    def rows(self) -> Sequence[Shown]:
        """As shown now."""
        return list(self.shown.values())

    def _followed(self, row: Row, t_s: float) -> Shown:
        one = self.shown.get(row.name) or Shown(row)
        one.row = row
        if row.joules is not None:
            one.track.add(t_s, row.joules, row.tokens or 0.0)
        else:
            one.track.add_watts(t_s, row.watts, row.tokens or 0.0)
        if row.tokens is not None:
            one.rate.add(t_s, row.tokens)
        return one
