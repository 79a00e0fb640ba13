"""Holds bytes that were stamped until the loop has taken in all that is there to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from .client import Connection


class Inbox:
    """
    Bytes that were stamped and wait to be read.

    An engine sends the tokens of a whole batch in one burst. Stamping all of
    them before parsing any keeps one stream's parsing out of the next one's
    time stamp.
    """

    __slots__ = ("_loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: list[tuple[Connection, int, bytes]] = []

    def wake(self) -> None:
        """Something is about to wait: drain once the loop has taken in all there is to read."""
        self._loop.call_soon(self.drain)

    def drain(self) -> None:
        """Read everything that waits, in the order it came."""
        waiting, self.waiting = self.waiting, []
        for connection, t_ns, data in waiting:
            connection.take(t_ns, data)
