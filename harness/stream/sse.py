"""Splits a byte stream into server-sent events, at whatever bytes it was cut."""

from __future__ import annotations

import re
from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""A longer event is no token stream; refusing it bounds our memory."""

_LF: Final = 0x0A
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventTooLongError(ValueError):
    """An event grew past MAX_EVENT_BYTES without ending."""


class EventSplitter:
    """
    Collects the `data` of server-sent events.

    Lines may end in LF, CRLF or CR, an event may have several `data` lines,
    comments and other fields are skipped: as the HTML standard says. What it
    does not say, and servers do: the last event may lack its empty line, so
    `finish` hands out what is left if its last line was whole.

    `between_events` is True while nothing of an unfinished event is held.
    """

    __slots__ = ("_data", "_first", "_rest", "between_events")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._first = True
        self.between_events = True

    def feed(self, data: bytes) -> list[bytes]:
        """
        Add bytes.

        Returns:
            The `data` of the events they completed, in order; events without data are skipped.

        Raises:
            EventTooLongError: the unfinished event is longer than MAX_EVENT_BYTES.
        """
        if self.between_events and data[:6] == b"data: " and b"\r" not in data:
            # What every engine sends: whole events of one line, whole per read.
            if data.find(b"\n") == len(data) - 2 and data[-1] == _LF:
                self._first = False
                return [data[6:-2]]
            if data.endswith(b"\n\n"):
                events = data[6:-2].split(b"\n\ndata: ")
                if b"\n" not in b"".join(events):
                    self._first = False
                    return events
        return self._feed_lines(data)

    def finish(self) -> list[bytes]:
        """Data of a last event whose lines are whole but whose empty line is missing."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line(rest.removesuffix(b"\r"))
        return self._dispatch()

    def _feed_lines(self, data: bytes) -> list[bytes]:
        text = self._rest + data if self._rest else data
        if self._first:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):  # noqa: PLR2004 - a BOM's length
                self._rest = text
                self.between_events = False
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        # A CR at the very end may be half of a CRLF: it waits for the next byte.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = _LINE_END.split(text[:-1] if held else text)
        self._rest = lines.pop() + held
        events: list[bytes] = []
        for line in lines:
            if line:
                self._line(line)
            else:
                events += self._dispatch()
        self.between_events = not self._rest and not self._data
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise EventTooLongError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))

    def _dispatch(self) -> list[bytes]:
        if not self._data:
            return []
        event = b"\n".join(self._data)
        self._data = []
        return [event]
