"""What a request asks, as far as the mock server cares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_DEFAULT_OSL_TOKENS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What one request asks, as far as the mock cares.

    Args:
        number: its place in the server's order of arrival.
        index: the number at the end of its X-Request-Id, -1 without one.
        chat: chat rather than plain completion.
        stream: answered as a stream.
        model: echoed.
        isl_tokens: tokens of the prompt: ids as they are, text at four characters each.
        osl_tokens: tokens the answer will have.
        finish_reason: `stop` if that is fewer than were asked for.
        usage: a closing chunk with usage is wanted.
        continuous_usage: vLLM's running usage in every chunk.
        timings: llama.cpp's running timings in every chunk.
    """

    number: int
    index: int
    chat: bool
    stream: bool
    model: str
    isl_tokens: int
    osl_tokens: int
    finish_reason: str
    usage: bool
    continuous_usage: bool
    timings: bool


def read_ask(
    body: dict[str, Any], *, chat: bool, number: int, request_id: bytes, natural: int | None
) -> Ask:
    """
    Read a request's JSON.

    Args:
        body: the document.
        chat: it was posted to the chat path.
        number: its place in the order of arrival.
        request_id: the X-Request-Id header, empty without one.
        natural: length of an answer that may stop by itself; None: it never does.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is no request.
    """
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_OSL_TOKENS
    osl = max(int(wanted), 1)
    stops = natural is not None and natural < osl and not body.get("ignore_eos")
    options = body.get("stream_options") or {}
    tail = request_id.rpartition(b"-")[2]
    prompt = [turn.get("content") for turn in body["messages"]] if chat else body["prompt"]
    return Ask(
        number=number,
        index=int(tail) if tail.isdigit() and len(tail) < 10 else -1,  # noqa: PLR2004 - fits an i4
        chat=chat,
        stream=bool(body.get("stream")),
        model=str(body.get("model", "mock")),
        isl_tokens=_count(prompt),
        osl_tokens=int(natural) if stops and natural is not None else osl,
        finish_reason="stop" if stops else "length",
        usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        timings=bool(body.get("timings_per_token")),
    )


def _count(prompt: object) -> int:
    """Tokens of a prompt: ids count one each, text one for every four characters begun."""
    if isinstance(prompt, str):
        return -(-len(prompt) // 4)
    if isinstance(prompt, list):
        return sum(1 if isinstance(part, int) else _count(part) for part in prompt)
    return 0
