"""The bytes of a streamed answer in OpenAI's dialect: chunks, usage, errors, HTTP framing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .asking import Ask

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_END: Final = b"0\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"
_REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_WORDS: Final = (" watt", " joule", " volt", " ohm", " token", " tick", " gauge", " cycle")


def framed(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"


def whole(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    """A complete HTTP answer."""
    head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
        status,
        _REASONS[status],
        content_type.encode(),
        len(body),
    )
    return head + body


def error_body(message: str, status: int) -> bytes:
    """An error as vLLM words it."""
    return orjson.dumps({"error": {"message": message, "type": "mock", "code": status}})


class Wording:
    """
    Words one answer.

    Args:
        ask: the request.
        created: Unix seconds put into each chunk.
    """

    __slots__ = ("_ask", "_constant", "_open")

    def __init__(self, ask: Ask, created: int) -> None:
        self._ask = ask
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        self._open = {
            "id": f"{'chatcmpl' if ask.chat else 'cmpl'}-mock-{ask.number}",
            "object": kind,
            "created": created,
            "model": ask.model,
        }
        self._constant: dict[tuple[int, bool], bytes] = {}

    def role(self) -> bytes | None:
        """The empty chunk a chat opens with; it carries no content."""
        if not self._ask.chat:
            return None
        return framed(self._chunk({"role": "assistant", "content": ""}, None, so_far=0))

    def tokens(self, count: int, so_far: int, *, reasoning: bool) -> bytes:
        """*count* more tokens, *so_far* with them."""
        if self._ask.continuous_usage or self._ask.timings:
            return framed(self._words(count, reasoning=reasoning, so_far=so_far))
        # Without a running count all chunks of a kind are the same bytes.
        key = (count, reasoning)
        if key not in self._constant:
            self._constant[key] = framed(self._words(count, reasoning=reasoning, so_far=so_far))
        return self._constant[key]

    def repeated(self) -> bytes | None:
        """What every further token looks like; None: each has a count of its own."""
        return self._constant.get((1, False))

    def finish(self) -> bytes:
        """The chunk with the finish reason."""
        so_far = self._ask.osl_tokens
        return framed(self._chunk({}, self._ask.finish_reason, so_far=so_far))

    def usage(self) -> bytes:
        """The closing chunk with usage, without choices."""
        document = self._open | {"choices": [], "usage": self._counts(self._ask.osl_tokens)}
        if self._ask.timings:
            document["timings"] = {"predicted_n": self._ask.osl_tokens}
        return framed(event(document))

    def at_once(self) -> bytes:
        """The whole answer to a request that asked for no stream."""
        text = self._text(self._ask.osl_tokens)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._ask.finish_reason}
        choice |= (
            {"message": {"role": "assistant", "content": text}}
            if self._ask.chat
            else {"text": text}
        )
        document = self._open | {"choices": [choice], "usage": self._counts(self._ask.osl_tokens)}
        document["object"] = "chat.completion" if self._ask.chat else "text_completion"
        return orjson.dumps(document)

    def _text(self, count: int) -> str:
        return "".join(_WORDS[(self._ask.number + i) % len(_WORDS)] for i in range(count))

    def _words(self, count: int, *, reasoning: bool, so_far: int) -> bytes:
        key = "reasoning_content" if reasoning else "content"
        return self._chunk({key: self._text(count)}, None, so_far=so_far)

    def _chunk(self, delta: dict[str, str], reason: str | None, *, so_far: int) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
        choice |= {"delta": delta} if self._ask.chat else {"text": "".join(delta.values())}
        document = self._open | {"choices": [choice]}
        if self._ask.continuous_usage:
            document["usage"] = self._counts(so_far)
        if self._ask.timings and so_far:
            document["timings"] = {"prompt_n": self._ask.isl_tokens, "predicted_n": so_far}
        return event(document)

    def _counts(self, so_far: int) -> dict[str, int]:
        isl = self._ask.isl_tokens
        return {"prompt_tokens": isl, "total_tokens": isl + so_far, "completion_tokens": so_far}
