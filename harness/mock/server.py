"""The mock's HTTP side: takes OpenAI requests, streams made-up tokens, goes wrong when told to."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

import orjson

from harness.stream.receiver import Receiver

from . import asking, wording
from .line import Line
from .metrics import PATHS, Counts, exposition
from .rhythm import Rhythm
from .writelog import WriteKind, WriteLog

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import MockSettings

_SLOW = 10.0
_BACKLOG = 8192
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
        self._listener: socket.socket | None = None
        self._receiver: Receiver | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
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
        # A request is stamped by the kernel, so this server being busy is no error of the client.
        self._receiver = Receiver(loop, pool_s=0)
        where = (self.settings.host, self.settings.port)
        family = (await loop.getaddrinfo(*where, type=socket.SOCK_STREAM))[0][0]
        self._listener = socket.create_server(where, family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)
        self._flusher = loop.create_task(self._flush())
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is what called us
        assert self._receiver is not None  # noqa: S101 - made before it
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # no more, or one that went away again
                return
            self._lines.add(Line(sock, self._receiver, self.answer))

    async def stop(self) -> None:
        """Stop listening; answers under way are abandoned."""
        if self._flusher is not None:
            self._flusher.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
        for line in list(self._lines):
            line.close()
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

    def answer(self, line: Line) -> None:
        """A whole request has come in on *line*."""
        path = line.url.decode("latin-1").partition("?")[0]
        settings = self.settings
        if path in _COMPLETIONS and line.method == b"POST":
            self._complete(line, chat=_COMPLETIONS[path])
        elif path == PATHS[settings.dialect]:
            text = exposition(settings.dialect, self.counts, model=settings.model)
            line.write(wording.whole(200, text, "text/plain; version=0.0.4"))
        elif path == "/health":
            line.write(wording.whole(200, b'{"status":"ok"}'))
        elif path == "/v1/models":
            model = {"id": settings.model, "object": "model", "created": 0, "owned_by": "mock"}
            line.write(wording.whole(200, orjson.dumps({"object": "list", "data": [model]})))
        else:
            line.write(wording.whole(404, wording.error_body(f"no {path} here", 404)))

    def _complete(self, line: Line, *, chat: bool) -> None:
        number = self.number()
        if not line.idle:
            self._refuse(line, 400, "the mock takes one request at a time on a connection")
            return
        try:
            body = orjson.loads(line.body)
            ask = asking.read_ask(
                body,
                chat=chat,
                number=number,
                request_id=line.request_id,
                natural=self.settings.natural_osl_tokens,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._refuse(line, 400, f"not a request: {error!r}")
            return
        self.log.add(line.t_ns, number, ask.index, 0, WriteKind.RECEIVED)
        fault = self.settings.fault_of(number)
        if fault is not None and self._fail_at_once(line, fault):
            return
        self.counts.prompt += ask.isl_tokens
        line.idle = False
        self.admit(Stream(self, line, ask, fault))

    def _fail_at_once(self, line: Line, fault: str) -> bool:
        if fault.startswith("http_"):
            self._refuse(line, int(fault.removeprefix("http_")), "the mock was told to fail")
        elif fault in {"close", "reset"}:
            line.close(reset=fault == "reset")
        elif fault == "gzip":
            head = wording.STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
            line.write(head + wording.framed(b"\x1f\x8b\x08") + wording.STREAM_END)
        elif fault == "not_http":
            line.write(b"SSH-2.0-mock\r\n")
        else:
            return False
        return True

    def _refuse(self, line: Line, status: int, message: str) -> None:
        line.write(wording.whole(status, wording.error_body(message, status)))


class Stream:
    """One answer under way."""

    __slots__ = (
        "_ask",
        "_broken_at",
        "_fault",
        "_line",
        "_sent",
        "_server",
        "_steady",
        "_words",
        "slowness",
    )

    def __init__(self, server: MockServer, line: Line, ask: asking.Ask, fault: str | None) -> None:
        self._server = server
        self._line = line
        self._ask = ask
        self._fault = fault
        self._words = wording.Wording(ask, int(time.time()))
        self._sent = 0
        self._steady: bytes | None = None
        self._broken_at = max(ask.osl_tokens // 2, 1)
        self.slowness = _SLOW if fault == "slow" else 1.0

    def emit(self) -> bool:
        """Send the next tokens, and the end after the last; False: over."""
        ask, line = self._ask, self._line
        if line.closed:
            return self._over()
        if self._steady is not None and self._sent + 1 < ask.osl_tokens:
            self._sent += 1
            self._log(WriteKind.TOKENS)
            line.write(self._steady)
            self._server.counts.generated += 1
            return True
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
            if self._fault is None and count == 1 and not reasoning:
                self._steady = self._words.repeated()
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
