"""The OpenAI dialect of a request: its path, its body and its HTTP head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from harness import __version__
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from harness.contracts import Endpoint
    from harness.timeline import Request

_PATHS: Final = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


def split_url(endpoint: Endpoint) -> SplitResult:
    """
    The parts of the endpoint's base URL.

    Raises:
        ConfigError: it is not an http or https URL with a host.
    """
    try:
        url = urlsplit(endpoint.base_url)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"{endpoint.base_url!r} is not a URL requests can be sent to",
            remedy="give scheme, host and port, like http://127.0.0.1:8000",
        )
    return url


def target(endpoint: Endpoint) -> str:
    """The path requests are posted to; a base URL that ends in `/v1` is understood, too."""
    prefix = split_url(endpoint).path.rstrip("/").removesuffix("/v1")
    return prefix + _PATHS[endpoint.endpoint_type]


def build_body(request: Request, endpoint: Endpoint, fixed_length: Mapping[str, Any]) -> bytes:
    """
    The JSON of one streaming request.

    Args:
        request: what to ask.
        endpoint: its `extra_body` is merged over our fields.
        fixed_length: fields that pin the output's length; merged before `extra_body`.

    Raises:
        ConfigError: token ids for chat, or a chat for completions.
    """
    body: dict[str, Any] = {
        "model": endpoint.model,
        "stream": True,
        "max_tokens": request.max_osl_tokens,
    }
    body |= _prompt(request, endpoint)
    body |= fixed_length
    body |= endpoint.extra_body
    # Without usage the output length would be a guess, so nobody can unset it.
    options = body.get("stream_options")
    body["stream_options"] = {"include_usage": True} | (
        options if isinstance(options, dict) else {}
    )
    return orjson.dumps(body)


def _prompt(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.endpoint_type == "completions":
        if request.messages is not None:
            raise ConfigError(
                f"request {request.index} is a chat, the endpoint type is completions",
                remedy="use `--endpoint-type chat` or a workload of plain prompts",
            )
        if isinstance(request.prompt, str):
            return {"prompt": request.prompt}
        if not endpoint.takes_token_ids:
            raise ConfigError(
                f"request {request.index} is made of token ids, of which this engine takes none",
                remedy="use `-s workload.prompts=text`, and `--endpoint-type chat` for a chat",
            )
        return {"prompt": [*request.prompt]}
    if request.messages is not None:
        turns = [{"role": role, "content": content} for role, content in request.messages]
        return {"messages": turns}
    if not isinstance(request.prompt, str):
        raise ConfigError(
            f"request {request.index} is made of token ids, which chat does not take",
            remedy="use `--endpoint-type completions` or a workload of text",
        )
    return {"messages": [{"role": "user", "content": request.prompt}]}


def build_head(endpoint: Endpoint, *, forwarded: Mapping[str, str] | None = None) -> bytes:
    """
    The HTTP head up to the two headers that differ between requests.

    Args:
        endpoint: where to; its headers override ours, compared without case.
        forwarded: headers for a proxy that forwards requests; None: there is none.

    Raises:
        ConfigError: a header or the API key holds a line break or is not latin-1.
    """
    headers = {
        "Host": split_url(endpoint).netloc.rpartition("@")[2],
        "User-Agent": f"joulemark/{__version__}",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }
    if endpoint.api_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    headers |= forwarded or {}
    for name, value in endpoint.headers.items():
        _drop(headers, name)
        headers[name] = value
    url = split_url(endpoint)
    start = "" if forwarded is None else f"{url.scheme}://{headers['Host']}"
    lines = [f"POST {start}{target(endpoint)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ConfigError(
            "a header of the endpoint holds a line break", remedy="remove it from `headers`"
        )
    try:
        return ("\r\n".join(lines) + "\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"a header of the endpoint holds {error.object[error.start]!r}, not a latin-1 letter",
            remedy="HTTP carries only latin-1: change `headers` or the API key",
        ) from error


def _drop(headers: dict[str, str], name: str) -> None:
    for known in [known for known in headers if known.lower() == name.lower()]:
        del headers[known]


def finish_message(head: bytes, body: bytes, *, request_id: str) -> bytes:
    """The whole HTTP message: *head* of `build_head`, what differs, and *body*."""
    rest = f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head + rest.encode("ascii") + body
