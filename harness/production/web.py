"""The daemon's HTTP side: four paths, bounded in time, size and number of connections."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .exposition_text import OPENMETRICS, TEXT
from .web_config import WebConfig
from .web_login import Login
from .web_reload import WebConfigFile

_LOG: Final = logging.getLogger(__name__)
_HEAD_LIMIT: Final = 8192
_HEAD_S: Final = 5.0
_IDLE_S: Final = 90.0
_WRITE_S: Final = 10.0
_HANDSHAKE_S: Final = 5.0
_BACKLOG: Final = 128
_CAUTIOUS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """
    What there is to read.

    Args:
        metrics: the exposition; given whether OpenMetrics is wanted.
        page: the built-in page, HTML.
        ready: whether a recent snapshot is there.
    """

    metrics: Callable[[bool], bytes]
    page: Callable[[], bytes]
    ready: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class WebServer:
    """
    Listens until closed.

    Args:
        content: what to show.
        config: TLS and users, as they are now.
        max_connections: open at a time; more are closed at once.
    """

    def __init__(self, content: Content, config: WebConfigFile, *, max_connections: int) -> None:
        self._content = content
        self._config = config
        self._login = Login(config.now().users)
        self._limit = max_connections
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._zipped: tuple[bytes, bytes] = (b"", b"")

    async def start(self, host: str, port: int) -> int:
        """
        Begin to listen.

        Returns:
            The port, which the system chose if *port* is 0.
        """
        tls = self._config.listening
        handshake = {} if tls is None else {"ssl_handshake_timeout": _HANDSHAKE_S}
        self._server = await asyncio.start_server(
            self._serve,
            host,
            port,
            limit=_HEAD_LIMIT,
            backlog=_BACKLOG,
            ssl=tls,
            **handshake,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._limit or not _admitted(writer, self._config.now()):
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            await self._talk(reader, writer)
        except (OSError, EOFError, TimeoutError):
            pass  # a scraper that went away or stalled is no event
        finally:
            self._open.discard(writer)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wait_s = _HEAD_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    first = await reader.readexactly(1)
                # Once a request has begun it must be whole soon, however slowly it drips.
                async with asyncio.timeout(_HEAD_S):
                    head = first + await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                await self._say(writer, _Answer(status=431, body=b"too large\n"), head_only=False)
                return
            answer, keep = await self._answer(head)
            head_only = head.startswith(b"HEAD ")
            await self._say(writer, answer, head_only=head_only, keep=keep)
            if not keep:
                return
            wait_s = _IDLE_S

    async def _say(
        self, writer: asyncio.StreamWriter, answer: _Answer, *, head_only: bool, keep: bool = False
    ) -> None:
        fields = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Connection": "keep-alive" if keep else "close",
            **_CAUTIOUS,
            **answer.headers,
            **self._config.now().headers,
        }
        lines = [f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        writer.write(head + (b"" if head_only else answer.body))
        async with asyncio.timeout(_WRITE_S):
            await writer.drain()

    async def _answer(self, head: bytes) -> tuple[_Answer, bool]:
        line, *fields = head[:-4].split(b"\r\n")
        words = line.split(b" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, colon, value in (field.partition(b":") for field in fields)
            if colon
        }
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - request line
            return _Answer(status=400, body=b"not HTTP/1.1\n"), False
        # A body would have to be read; there is nothing to post here, so it never is.
        asks_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        if words[0] not in {b"GET", b"HEAD"} or asks_body:
            allow = {"Allow": "GET, HEAD"}
            return _Answer(status=405, body=b"only GET\n", headers=allow), False
        keep = words[2] == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
        users = self._config.now().users
        if users is not self._login.users:
            self._login = Login(users)
        if not await self._login.allows(headers.get(b"authorization")):
            asked = {"WWW-Authenticate": 'Basic realm="joulemark"'}
            return _Answer(status=401, body=b"log in\n", headers=asked), False
        return self._page(words[1].partition(b"?")[0], headers), keep

    def _page(self, path: bytes, headers: dict[bytes, bytes]) -> _Answer:
        match path:
            case b"/metrics":
                return self._metrics(headers)
            case b"/-/healthy":
                return _Answer(status=200, body=b"healthy\n")
            case b"/-/ready":
                if self._content.ready():
                    return _Answer(status=200, body=b"ready\n")
                return _Answer(status=503, body=b"no snapshot lately\n")
            case b"/":
                return _Answer(
                    status=200,
                    body=self._content.page(),
                    kind="text/html; charset=utf-8",
                    headers={"Content-Security-Policy": _POLICY},
                )
        return _Answer(status=404, body=b"try /metrics\n")

    def _metrics(self, headers: dict[bytes, bytes]) -> _Answer:
        openmetrics = b"application/openmetrics-text" in headers.get(b"accept", b"")
        body = self._content.metrics(openmetrics)
        fields = {"Vary": "Accept, Accept-Encoding"}
        if b"gzip" in headers.get(b"accept-encoding", b""):
            body, fields = self._zip(body), fields | {"Content-Encoding": "gzip"}
        kind = OPENMETRICS if openmetrics else TEXT
        return _Answer(status=200, body=body, kind=kind, headers=fields)

    def _zip(self, body: bytes) -> bytes:
        if self._zipped[0] is not body:
            packer = zlib.compressobj(1, wbits=31)
            self._zipped = (body, packer.compress(body) + packer.flush())
        return self._zipped[1]


def _admitted(writer: asyncio.StreamWriter, config: WebConfig) -> bool:
    """Whether a client's certificate, if it has to be for somebody, is."""
    if not config.allowed_sans:
        return True
    certificate = writer.get_extra_info("peercert") or {}
    names = {value for _, value in certificate.get("subjectAltName", ())}
    return not names.isdisjoint(config.allowed_sans)
