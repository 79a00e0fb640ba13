"""Fetches metrics over one kept connection: allowed addresses only, bounded, not redirected."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from harness.errors import ConfigError, EngineError

_HEAD_LIMIT: Final = 32_768
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+) *(?=\r\n)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_OK: Final = 200

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Target:
    """
    One URL that is scraped again and again.

    Args:
        url: http or https.
        allow: networks its address must be in.
        max_bytes: of one answer.
        headers: sent with each request.
        tls: for https; None: the system's authorities.
    """

    def __init__(
        self,
        url: str,
        *,
        allow: Sequence[Network],
        max_bytes: int,
        headers: Sequence[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ConfigError(
                f"{url!r} is no URL of metrics", remedy="write e.g. http://127.0.0.1:8000/metrics"
            )
        if re.search(r"[\s\x00-\x1f]", url):
            raise ConfigError(f"{url!r} has white space", remedy="percent-encode it")
        self.url = url
        self.place = parts.netloc
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._allow = allow
        self._max_bytes = max_bytes
        query = f"?{parts.query}" if parts.query else ""
        lines = [f"GET {parts.path or '/'}{query} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += ["Accept: text/plain", "User-Agent: joulemark"]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def fetch(self, *, timeout_s: float) -> bytes:
        """
        One answer's body.

        Raises:
            EngineError: no answer in time, not 200, too large, or an address that is not allowed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._attempts()
        except TimeoutError as error:
            self.close()
            raise self._fault(f"did not answer within {timeout_s:g} s") from error
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
            self.close()
            raise self._fault(f"cannot be read ({error})") from error
        except BaseException:
            self.close()
            raise

    async def _attempts(self) -> bytes:
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams)
            except (OSError, EOFError):
                # It closed the connection while it was not used: that is no fault yet.
                self.close()
        self._streams = await self._connect()
        return await self._exchange(*self._streams)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        )
        # The address that was checked is the one connected to, so a name cannot change between.
        address = found[0][4][0]
        self._check(str(address))
        name = self._host if self._tls else None
        return await asyncio.open_connection(
            str(address), self._port, ssl=self._tls, server_hostname=name, limit=_HEAD_LIMIT
        )

    def _check(self, text: str) -> None:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise EngineError(
                f"{self.url} is at {address}, which is never scraped",
                remedy="name the engine's own address",
            )
        if not any(address in network for network in self._allow):
            raise EngineError(
                f"{self.url} is at {address}, which targets.allow does not name",
                remedy="add its network to targets.allow if it is yours",
            )

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if status != _OK:
            self.close()
            why = "redirects, which are not followed" if status // 100 == 3 else "answers"  # noqa: PLR2004
            raise self._fault(f"{why}: status {status}")
        if _CHUNKED.search(head):
            body = await self._chunks(reader)
        elif found := _LENGTH.search(head):
            body = await reader.readexactly(self._within(int(found[1])))
        else:
            body = await self._rest(reader)
        if _CLOSES.search(head):
            self.close()
        return body

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts: list[bytes] = []
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            self._within(sum(map(len, parts)) + size)
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)

    async def _rest(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while data := await reader.read(65536):
            body += data
            self._within(len(body))
        self.close()
        return bytes(body)

    def _within(self, size: int) -> int:
        if size > self._max_bytes:
            raise self._fault(f"sends {size} bytes, more than {self._max_bytes}")
        return size

    def _fault(self, what: str) -> EngineError:
        return EngineError(f"{self.url} {what}", remedy="check the engine and its URL")

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
