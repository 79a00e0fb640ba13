"""A round: calls into one power source, each stamped, their readings written as one block."""

from __future__ import annotations

import functools
import math
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from .contracts import BatchSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .contracts import Batch, PowerSession
    from .timeline import Channel, ReadStatus

_RECORD: Final = "qqdHH4x"
"""One row of POWER_DTYPE, in the words of `struct`."""
_MEMBERS: Final = 5


class Sink(Protocol):
    """Where packed records go: the journal, or a queue towards it."""

    def append(self, records: bytes, /) -> None:
        """Take whole records."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One call into a driver.

    Args:
        session: whose.
        index: which of its `calls`.
        channels: what it reads.
        first_channel: number of the first of them in the journal.
    """

    session: PowerSession
    index: int
    channels: Sequence[Channel]
    first_channel: int

    @property
    def counts(self) -> bool:
        """It reads an energy counter."""
        return any(channel.quantity == "energy" for channel in self.channels)

    @property
    def counts_alone(self) -> bool:
        """It reads energy counters and nothing else."""
        return all(channel.quantity == "energy" for channel in self.channels)


class Round:
    """
    Calls of one session, made one after another.

    When the sampler is woken, other programs' memory is in the processor's caches, so
    what it costs is how much code and how many objects it touches rather than how
    often. So the calls are made first, then all answers are read at once, then
    all records are packed at once.

    Args:
        calls: all of one session.
    """

    __slots__ = (
        "_asks",
        "_batch",
        "_call_of_row",
        "_first_rows",
        "_members",
        "_pack",
        "calls",
        "values",
    )

    def __init__(self, calls: Sequence[Call]) -> None:
        session, indices = calls[0].session, [call.index for call in calls]
        self._batch: Batch = (
            session.batch(indices)
            if isinstance(session, BatchSession)
            else _Reads(session, indices)
        )
        self._asks = list(self._batch.asks)
        self.calls = calls
        self.values: Sequence[float] = ()
        """What it read the last time, in the order of the channels; empty before the first."""
        numbers = [call.first_channel + k for call in calls for k in range(len(call.channels))]
        self._call_of_row = [place for place, call in enumerate(calls) for _ in call.channels]
        self._first_rows = [self._call_of_row.index(place) for place in range(len(calls))]
        self._members: list[float] = [0] * (_MEMBERS * len(numbers))
        self._members[3::_MEMBERS] = numbers
        self._pack = struct.Struct("<" + _RECORD * len(numbers)).pack

    def run(self, journal: Sink) -> None:
        """Make the calls, stamp each, and write what they found."""
        now_ns = time.perf_counter_ns
        before_ns, after_ns, returned = [], [], []
        for ask in self._asks:
            before_ns.append(now_ns())
            returned.append(ask())
            after_ns.append(now_ns())
        self.values, statuses = self._batch.answers(returned)
        members = self._members
        members[0::_MEMBERS] = [before_ns[call] for call in self._call_of_row]
        members[1::_MEMBERS] = [after_ns[call] for call in self._call_of_row]
        members[2::_MEMBERS] = self.values
        members[4::_MEMBERS] = statuses
        journal.append(self._pack(*members))

    def latest_ns(self) -> tuple[int, int]:
        """Start and end of its first call, the last time."""
        return int(self._members[0]), int(self._members[1])

    def firsts(self) -> list[float]:
        """The newest value of each call's first channel; empty before the first run."""
        return [self.values[row] for row in self._first_rows] if self.values else []

    def only(self, kept: Sequence[bool]) -> Round:
        """The round of those of its calls, with the values that they have read."""
        fewer = Round([call for call, keep in zip(self.calls, kept, strict=True) if keep])
        fewer.values = [
            value for value, call in zip(self.values, self._call_of_row, strict=True) if kept[call]
        ]
        return fewer

    def latest(self) -> list[tuple[int, Channel, float]]:
        """Journal number, channel and newest value (NaN: none yet) of all it reads."""
        channels = [channel for call in self.calls for channel in call.channels]
        numbers = self._members[3::_MEMBERS]
        values = self.values or [math.nan] * len(channels)
        return list(zip(map(int, numbers), channels, values, strict=True))


class _Reads:
    """The batch of a session that has none of its own."""

    def __init__(self, session: PowerSession, indices: Sequence[int]) -> None:
        self.asks: list[Callable[[], Any]] = [
            functools.partial(session.read, index) for index in indices
        ]

    def answers(
        self, returned: Sequence[Sequence[tuple[float, ReadStatus]]]
    ) -> tuple[list[float], list[int]]:
        readings = [reading for call in returned for reading in call]
        return [value for value, _ in readings], [status for _, status in readings]


def rounds_of(calls: Sequence[Call]) -> list[Round]:
    """The calls as rounds, one a session."""
    sessions = {id(call.session): call.session for call in calls}
    return [
        Round([call for call in calls if call.session is session]) for session in sessions.values()
    ]
