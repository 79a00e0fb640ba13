"""Opens connections to one endpoint: addresses, TLS, and what to call it when it fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final

from harness.client import Connection

from .openai_api import split_url
from .proxy import Proxy, find_proxy
from .receiver import Receiver

if TYPE_CHECKING:
    from harness.contracts import Endpoint

_MAX_HEAD_BYTES: Final = 16 * 1024
_PORTS: Final = {"http": 80, "https": 443}


class DialError(Exception):
    """
    No connection came about.

    Args:
        kind: `refused`, `dns`, `tls` or `deadline`, as in RequestTrace.error_kind.
        message: what happened, with the address.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


class Dialer:
    """
    Opens connections to an endpoint, asking for its addresses once.

    Args:
        endpoint: http or https.
        loop: runs the connections.
        timeout_s: longest wait for one connection, TLS included.
    """

    def __init__(
        self, endpoint: Endpoint, *, loop: asyncio.AbstractEventLoop, timeout_s: float
    ) -> None:
        url = split_url(endpoint)
        self._loop = loop
        self.receiver = Receiver(loop)
        self._timeout_s = timeout_s
        self.host = str(url.hostname)
        self.port = url.port or _PORTS[url.scheme]
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._proxy = find_proxy(endpoint)
        self._addresses: list[tuple[socket.AddressFamily, tuple[object, ...]]] = []
        self.opened = 0

    @property
    def forwarded(self) -> dict[str, str] | None:
        """
        Headers a forwarding proxy wants with each request, whose target is then a whole URL.

        None: there is none between; under TLS the proxy sees only CONNECT.
        """
        if self._proxy is None or self._tls is not None:
            return None
        wanted = self._proxy.authorization
        return {} if wanted is None else {"Proxy-Authorization": wanted}

    async def dial(self) -> Connection:
        """
        A new connection.

        Raises:
            DialError: there is none to be had.
        """
        where = f"{self.host}:{self.port}"
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connect()
        except TimeoutError as error:
            message = f"no connection to {where} within {self._timeout_s:g} s"
            raise DialError("deadline", message) from error
        except socket.gaierror as error:
            message = f"the name {self.host!r} has no address: {error.strerror}"
            raise DialError("dns", message) from error
        except ssl.SSLError as error:
            raise DialError("tls", f"no TLS with {where}: {error.reason or error}") from error
        except OSError as error:
            message = f"cannot connect to {where}: {error.strerror or error}"
            unnamed = self._tls is not None and not isinstance(error, ConnectionRefusedError)
            kind = "tls" if unnamed and not error.errno else "refused"
            raise DialError(kind, message) from error
        self.opened += 1
        return connection

    async def _connect(self) -> Connection:
        if not self._addresses:
            first = self._proxy or self
            found = await self._loop.getaddrinfo(
                first.host, first.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
            self._addresses = [(family, address) for family, _, _, _, address in found]
        refusal: OSError | None = None
        for family, address in self._addresses:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._loop.sock_connect(sock, address)
                if self._proxy is not None and self._tls is not None:
                    await self._tunnel(sock, self._proxy)
                return await self._attach(sock)
            except OSError as error:
                sock.close()
                refusal = error
            except BaseException:
                sock.close()
                raise
        assert refusal is not None  # noqa: S101 - getaddrinfo never returns an empty list
        raise refusal

    async def _tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        where = f"{self.host}:{self.port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await self._loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            # Byte by byte: what follows the head belongs to TLS.
            piece = await self._loop.sock_recv(sock, 1)
            if not piece or len(answer) > _MAX_HEAD_BYTES:
                raise ConnectionRefusedError(f"the proxy {proxy.host}:{proxy.port} gave no answer")
            answer += piece
        status = answer.split(b" ", 2)[1:2]
        if status != [b"200"]:
            line = answer.partition(b"\r\n")[0].decode("latin-1")
            raise ConnectionRefusedError(f"the proxy {proxy.host}:{proxy.port} said {line!r}")

    async def _attach(self, sock: socket.socket) -> Connection:
        connection = Connection(self._loop, self.receiver)
        if self._tls is None:
            await self._loop.create_connection(lambda: connection, sock=sock)
            connection.read_from(sock)
        else:
            await self._loop.create_connection(
                lambda: connection, sock=sock, ssl=self._tls, server_hostname=self.host
            )
        return connection
