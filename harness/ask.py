"""One HTTP request and its answer, for verbs that ask a server once; redirects are not followed."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from . import __version__
from .errors import ConfigError, PushError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANSWER_BYTES: Final = 64_000_000


def ask(
    method: str, url: str, *, headers: Mapping[str, str], timeout_s: float, body: bytes = b""
) -> tuple[int, bytes]:
    """
    Status and body of one answer, whatever its status.

    Args:
        method: GET, POST, PUT.
        url: http or https; no password in it.
        headers: sent along.
        timeout_s: for connecting, and for each read.
        body: what is sent.

    Raises:
        ConfigError: *url* is not usable.
        PushError: nothing answers there.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{url!r} is not an http or https address", remedy="write e.g. http://127.0.0.1:9090/…"
        )
    if parts.username or parts.password:
        raise ConfigError(
            f"the address of {parts.hostname} holds a password",
            remedy="put an `Authorization: …` line into a file and name it with --headers",
        )
    connection = (
        http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    ours = {"User-Agent": f"joulemark/{__version__}", "Connection": "close"}
    try:
        connection.request(method, target, body or None, {**ours, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise PushError(
            f"{url} is not reached ({error})", remedy="check the address and that it runs"
        ) from error
    finally:
        connection.close()


def read_headers(path: Path | None) -> dict[str, str]:
    """
    Headers from a file of `Name: value` lines, so that a secret is on no command line.

    Raises:
        ConfigError: it cannot be read, or a line is no header; the line is not shown.
    """
    if path is None:
        return {}
    try:
        lines = [line for line in path.read_text(encoding="latin-1").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror})", remedy="name a file of headers"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.partition(":")[2].strip():
            raise ConfigError(f"line {number} of {path} is no header", remedy="write `Name: value`")
    return {name.strip(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
