"""The mock's HTTP side: takes OpenAI requests, streams made-up tokens, goes wrong when told to."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import httptools
import orjson

from . import asking, wording
from .metrics import PATHS, Counts, exposition
from .rhythm import Rhythm
from .writelog import WriteKind, WriteLog

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import MockSettings

_RESET = struct.pack("ii", 1, 0)
_SLOW = 10.0
_COMPLETIONS = {"/v1/chat/completions": True, "/v1/completions": False}


class MockServer:
    """
    A running mock server.

    Args:
        settings: how it behaves.
        log: where token writes are logged; None: nowhere.
    """

    def __init__(self, settings: MockSettings, *, log: Path | None) -> None:
        self.settings = settings
        self.counts = Counts()
        self.log = WriteLog(log)
        self._rhythm: Rhythm | None = None
        self._server: asyncio.Server | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._waiting: deque[Stream] = deque()
        self._numbers = 0

    async def start(self) -> int:
        """
        Listen.

        Returns:
            The port.
        """
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        loop = asyncio.get_running_loop()
        self._rhythm = Rhythm(self.settings, loop)
        self._server = await loop.create_server(
            lambda: _Line(self), self.settings.host, self.settings.port, backlog=8192
        )
        self._flusher = loop.create_task(self._flush())
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening; answers under way are abandoned."""
        if self._flusher is not None:
            self._flusher.cancel()
        if self._server is not None:
            self._server.close()
        self.log.close()

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.log.flush()

    def number(self) -> int:
        """The place of the next request in the order of arrival, from 0."""
        self._numbers += 1
        return self._numbers - 1

    def admit(self, stream: Stream) -> None:
        """Serve *stream*, now or when a slot is free."""
        if self.settings.slots is not None and self.counts.running >= self.settings.slots:
            self._waiting.append(stream)
            self.counts.waiting += 1
            return
        self.counts.running += 1
        assert self._rhythm is not None  # noqa: S101 - requests come after `start`
        self._rhythm.start(stream)

    def release(self) -> None:
        """A stream is over; the next one in line is admitted."""
        self.counts.running -= 1
        if self._waiting:
            self.counts.waiting -= 1
            self.admit(self._waiting.popleft())


class Stream:
    """One answer under way."""

    __slots__ = ("_ask", "_broken_at", "_fault", "_line", "_sent", "_server", "_words", "slowness")

    def __init__(self, server: MockServer, line: _Line, ask: asking.Ask, fault: str | None) -> None:
        self._server = server
        self._line = line
        self._ask = ask
        self._fault = fault
        self._words = wording.Wording(ask, int(time.time()))
        self._sent = 0
        self._broken_at = max(ask.osl_tokens // 2, 1)
        self.slowness = _SLOW if fault == "slow" else 1.0

    def emit(self) -> bool:
        """Send the next tokens, and the end after the last; False: over."""
        ask, line = self._ask, self._line
        if line.closed:
            return self._over()
        if self._fault in {"cut", "stall", "stream_error", "bad_json"} and (
            self._sent >= self._broken_at
        ):
            return self._break(self._fault)
        if not self._sent and ask.stream:
            line.write(wording.STREAM_HEAD + (self._words.role() or b""))
        count = min(self._server.settings.tokens_per_chunk, ask.osl_tokens - self._sent)
        reasoning = ask.chat and self._sent < self._server.settings.reasoning_tokens
        self._sent += count
        if ask.stream:
            data = self._words.tokens(count, self._sent, reasoning=reasoning)
            self._log(WriteKind.TOKENS)
            line.write(data)
        self._server.counts.generated += count
        if self._sent < ask.osl_tokens:
            return True
        self._tail()
        return self._over()

    def _tail(self) -> None:
        if not self._ask.stream:
            self._log(WriteKind.TOKENS)
            self._line.write(wording.whole(200, self._words.at_once()))
            return
        parts = []
        if self._fault != "no_finish":
            parts.append(self._words.finish())
            if self._ask.usage and self._fault != "no_usage":
                parts.append(self._words.usage())
            if self._fault != "no_done":
                parts.append(wording.framed(wording.DONE))
        self._line.write(b"".join([*parts, wording.STREAM_END]))

    def _break(self, fault: str) -> bool:
        if fault == "cut":
            self._line.close()
        elif fault == "stream_error":
            error = wording.event({"error": {"message": "the mock ran out of memory", "code": 500}})
            self._line.write(
                wording.framed(error) + wording.framed(wording.DONE) + wording.STREAM_END
            )
        elif fault == "bad_json":
            self._line.write(wording.framed(b'data: {"choices":[\n\n') + wording.STREAM_END)
        # A stall leaves the line as it is: nothing more will come.
        return self._over()

    def _over(self) -> bool:
        self._log(WriteKind.END)
        self._server.counts.requests += 1
        self._server.counts.generated_finished += self._sent
        self._line.idle = True
        self._server.release()
        return False

    def _log(self, kind: int) -> None:
        ask = self._ask
        self._server.log.add(time.perf_counter_ns(), ask.number, ask.index, self._sent, kind)


class _Line(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._t_ns = 0
        self._url = b""
        self._request_id = b""
        self._body = b""
        self.closed = False
        self.idle = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True

    def data_received(self, data: bytes) -> None:
        # Stamped before any other request of the same burst is worked on.
        loop = asyncio.get_running_loop()
        loop.call_soon(self._take, time.perf_counter_ns(), data)

    def _take(self, t_ns: int, data: bytes) -> None:
        self._t_ns = t_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def write(self, data: bytes) -> None:
        """Straight to the kernel, so that the log's stamp is when the bytes left."""
        transport = self._transport
        if self.closed or transport is None or transport.is_closing():
            return
        taken = 0
        if not transport.get_write_buffer_size():
            try:
                taken = os.write(self._fd, data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self.close()
                return
        if taken < len(data):
            transport.write(data[taken:])

    def close(self, *, reset: bool = False) -> None:
        if self._transport is not None and not self.closed:
            if reset:
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.close()
        self.closed = True

    def on_message_begin(self) -> None:
        self._request_id = self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        path = self._url.decode("latin-1").partition("?")[0]
        settings = self._server.settings
        if path in _COMPLETIONS and self._parser.get_method() == b"POST":
            self._complete(chat=_COMPLETIONS[path])
        elif path == PATHS[settings.dialect]:
            text = exposition(settings.dialect, self._server.counts, model=settings.model)
            self.write(wording.whole(200, text, "text/plain; version=0.0.4"))
        elif path == "/health":
            self.write(wording.whole(200, b'{"status":"ok"}'))
        elif path == "/v1/models":
            model = {"id": settings.model, "object": "model", "created": 0, "owned_by": "mock"}
            self.write(wording.whole(200, orjson.dumps({"object": "list", "data": [model]})))
        else:
            self.write(wording.whole(404, wording.error_body(f"no {path} here", 404)))

    def _complete(self, *, chat: bool) -> None:
        number = self._server.number()
        if not self.idle:
            self._refuse(400, "the mock takes one request at a time on a connection")
            return
        try:
            body = orjson.loads(self._body)
            ask = asking.read_ask(
                body,
                chat=chat,
                number=number,
                request_id=self._request_id,
                natural=self._server.settings.natural_osl_tokens,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._refuse(400, f"not a request: {error!r}")
            return
        self._server.log.add(self._t_ns, number, ask.index, 0, WriteKind.RECEIVED)
        fault = self._server.settings.fault_of(number)
        if fault is not None and self._fail_at_once(fault):
            return
        self._server.counts.prompt += ask.isl_tokens
        self.idle = False
        self._server.admit(Stream(self._server, self, ask, fault))

    def _fail_at_once(self, fault: str) -> bool:
        if fault.startswith("http_"):
            self._refuse(int(fault.removeprefix("http_")), "the mock was told to fail")
        elif fault in {"close", "reset"}:
            self.close(reset=fault == "reset")
        elif fault == "gzip":
            head = wording.STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
            self.write(head + wording.framed(b"\x1f\x8b\x08") + wording.STREAM_END)
        elif fault == "not_http":
            self.write(b"SSH-2.0-mock\r\n")
        else:
            return False
        return True

    def _refuse(self, status: int, message: str) -> None:
        self.write(wording.whole(status, wording.error_body(message, status)))
