"""One client's connection to the mock server: its socket, its requests, what waits to be sent."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.stream.receiver import Receiver

_RESET: Final = struct.pack("ii", 1, 0)


class Line:
    """
    A connection that takes one request at a time.

    Args:
        sock: accepted, not blocking.
        receiver: reads it.
        on_request: called with this line for each whole request.
    """

    def __init__(
        self, sock: socket.socket, receiver: Receiver, on_request: Callable[[Line], None]
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._fd = sock.fileno()
        self._receiver = receiver
        self._on_request = on_request
        self._parser: Any = httptools.HttpRequestParser(self)
        self._pending = bytearray()
        self.quick: Callable[[int, bytes], bool] | None = None
        self.t_ns = 0
        """When the kernel had the last bytes that were read."""
        self.method = self.url = self.request_id = self.body = b""
        self.closed = False
        self.idle = True
        receiver.add(sock, self)

    def take(self, t_ns: int, data: bytes) -> None:
        """Bytes of a request."""
        self.t_ns = t_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def lost(self, t_ns: int, reason: str) -> None:
        """The client has gone."""
        del t_ns, reason
        self.close(discard=True)

    def write(self, data: bytes) -> None:
        """Straight to the kernel, so that the log's stamp is when the bytes left."""
        if self.closed:
            return
        if self._pending:
            self._pending += data
            return
        try:
            taken = os.write(self._fd, data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.close()
            return
        if taken < len(data):
            self._pending += data[taken:]
            asyncio.get_running_loop().add_writer(self._fd, self._write_rest)

    def _write_rest(self) -> None:
        try:
            del self._pending[: os.write(self._fd, self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()
        if not self._pending:
            asyncio.get_running_loop().remove_writer(self._fd)
            if self.closed:
                self._sock.close()

    def close(self, *, reset: bool = False, discard: bool = False) -> None:
        """No more is read; what waits is still sent, unless the line is reset or discarded."""
        if self.closed:
            return
        self.closed = True
        self._receiver.remove(self._fd, self)
        if self._pending:
            if not reset and not discard:
                return
            asyncio.get_running_loop().remove_writer(self._fd)
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    # httptools' side

    def on_message_begin(self) -> None:  # noqa: D102
        self.request_id = self.url = self.body = b""

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        if name.lower() == b"x-request-id":
            self.request_id = value

    def on_body(self, data: bytes) -> None:  # noqa: D102
        self.body += data

    def on_message_complete(self) -> None:  # noqa: D102
        self.method = self._parser.get_method()
        self._on_request(self)
