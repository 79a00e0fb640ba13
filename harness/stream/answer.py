"""What is learnt of one streamed answer, chunk by chunk: token events, usage, how it ended."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness.timeline import NOT_SAID, EventKind, Phase, Request, RequestTrace

from .chunk import MAX_COUNT, chars_of, count_of, error_text
from .chunked import FIRST_LINES, LONGEST
from .sse import EventSplitter, EventTooLongError
from .template import learn, not_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.progress import LoadProgress

    from .template import Ending, Template

_pack: Final = struct.Struct("<qiiiB3x").pack
_SENT: Final = int(EventKind.SENT)
_CHUNK: Final = int(EventKind.CHUNK)
_END: Final = int(EventKind.END)
_ERROR_CHARS: Final = 300
_LESSONS: Final = 8
"""How often a template is learnt anew; a stream without a constant shape is parsed throughout."""


class Answer:
    """
    One request from due to done.

    Writes its token events as they come and keeps no list of them, so that
    memory does not grow with the output.

    Args:
        request: what was asked.
        phase: the part of the run it belongs to.
        t_due_ns: when the arrival process wanted it sent.
        write_event: takes one packed row of EVENT_DTYPE.
        progress: counted up as tokens come.
    """

    __slots__ = (
        "_beyond",
        "_index",
        "_lessons",
        "_phase",
        "_progress",
        "_request",
        "_splitter",
        "_template",
        "_write",
        "cached_tokens",
        "chunks",
        "done",
        "error",
        "error_kind",
        "finish_reason",
        "isl_tokens",
        "osl_tokens",
        "reasoning_tokens",
        "reused_connection",
        "status",
        "stream_tokens",
        "t_due_ns",
        "t_end_ns",
        "t_first_ns",
        "t_last_ns",
        "t_sent_ns",
    )

    def __init__(
        self,
        request: Request,
        *,
        phase: Phase,
        t_due_ns: int,
        write_event: Callable[[bytes], None],
        progress: LoadProgress,
    ) -> None:
        self._request = request
        self._phase = phase
        self._write = write_event
        self._progress = progress
        self._splitter = EventSplitter()
        self._beyond = 0  # tokens counted so far over one a chunk
        self._index = request.index
        self._template: Template | None = None
        self._lessons = _LESSONS
        self.t_due_ns = t_due_ns
        self.t_sent_ns: int | None = None
        self.t_first_ns: int | None = None
        self.t_last_ns: int | None = None
        self.t_end_ns: int | None = None
        self.isl_tokens: int | None = None
        self.osl_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.stream_tokens: int | None = None
        self.chunks = 0
        self.finish_reason: str | None = None
        self.status: int | None = None
        self.done = False
        self.error_kind: str | None = None
        self.error: str | None = None
        self.reused_connection = False

    def sent(self, t_ns: int) -> None:
        """The kernel has the whole request."""
        self.t_sent_ns = t_ns
        self._write(_pack(t_ns, self._index, NOT_SAID, 0, _SENT))

    @property
    def repeating(self) -> bool:
        """The next event may be one for `quick`."""
        return (
            self._template is not None and self.t_end_ns is None and self._splitter.between_events
        )

    def quick(self, t_ns: int, data: bytes) -> bool:
        """
        Take a whole HTTP chunk that differs from an earlier one in nothing but text and count.

        Only while `repeating`, which nothing but `feed` and an end can change, and for
        a caller who knows that the HTTP parser waits for a new chunk; it then need
        not see this one. False: nothing was done.
        """
        template = self._template
        size = len(data)
        if template is None or size >= LONGEST:
            return False
        first_line, start = FIRST_LINES[size]
        return (
            data.startswith(template.before, start)
            and data.startswith(first_line)
            and self._known(t_ns, data, start + template.text_at, template, template.chunked)
        )

    def feed(self, t_ns: int, body: bytes) -> None:
        """Bytes of the answer's body, stamped when they reached this process."""
        if self.repeating:
            template = self._template
            assert template is not None  # noqa: S101 - `repeating`
            if body.startswith(template.before) and self._known(
                t_ns, body, template.text_at, template, template.bare
            ):
                return
        try:
            payloads = self._splitter.feed(body)
        except EventTooLongError as error:
            self.fail(t_ns, "protocol", str(error))
            return
        for payload in payloads:
            self._payload(t_ns, payload)

    def _known(
        self, t_ns: int, data: bytes, start: int, template: Template, ending: Ending
    ) -> bool:
        """Take *data*, which begins as the template says, if its text and its end fit as well."""
        said: int | None = None
        if ending.constant is not None:
            end = len(data) - ending.length
            if end <= start or not_plain(data, start, end) or not data.endswith(ending.constant):
                return False
        else:
            assert ending.counted is not None  # noqa: S101 - one of the two is there
            end = data.find(b'"', start)
            found = ending.counted(data, end) if end > start else None
            if found is None or not_plain(data, start, end):
                return False
            said = int(found[1])
            if said > MAX_COUNT:
                return False
            if template.usage:
                self.osl_tokens = said
        self._event(t_ns, said, end - start)
        return True

    def complete(self, t_ns: int) -> None:
        """
        The body is over as HTTP sees it; decide whether the answer is, too.

        A missing `[DONE]` is forgiven where the server said why it stopped or
        how many tokens it made: then everything that counts has arrived.
        """
        for payload in self._splitter.finish():
            self._payload(t_ns, payload)
        if self.done or self.finish_reason is not None or self.osl_tokens is not None:
            self.end(t_ns)
        else:
            self.fail(t_ns, "cut", "the stream ended without finish_reason, usage or [DONE]")

    def fail(self, t_ns: int, kind: str, message: str) -> None:
        """End as a failure; the first failure stays."""
        if self.t_end_ns is None:
            self.error_kind = kind
            self.error = message[:_ERROR_CHARS]
            self.end(t_ns)

    def end(self, t_ns: int) -> None:
        """Nothing more will come; a `[DONE]` before has set the instant already."""
        if self.t_end_ns is None:
            self.t_end_ns = t_ns
            if self.osl_tokens is not None:
                self._progress.output_tokens += self.osl_tokens - self.chunks - self._beyond
            said = NOT_SAID if self.osl_tokens is None else self.osl_tokens
            self._write(_pack(t_ns, self._index, said, 0, _END))

    def trace(self) -> RequestTrace:
        """The request's row; only after it has ended."""
        if self.t_end_ns is None:
            msg = f"request {self._request.index} has not ended"
            raise RuntimeError(msg)
        return RequestTrace(
            request=self._index,
            phase=self._phase,
            t_due_ns=self.t_due_ns,
            t_sent_ns=self.t_sent_ns,
            t_first_ns=self.t_first_ns,
            t_last_ns=self.t_last_ns,
            t_end_ns=self.t_end_ns,
            isl_tokens=self.isl_tokens,
            osl_tokens=self.osl_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
            stream_tokens=self.stream_tokens,
            chunks=self.chunks,
            max_osl_tokens=self._request.max_osl_tokens,
            isl_asked_tokens=self._request.isl_tokens,
            finish_reason=self.finish_reason,
            status=self.status,
            error_kind=self.error_kind,
            error=self.error,
            reused_connection=self.reused_connection,
        )

    def _payload(self, t_ns: int, payload: bytes) -> None:
        if self.t_end_ns is not None:
            return
        if payload == b"[DONE]":
            self.done = True
            self.end(t_ns)
            return
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.fail(t_ns, "protocol", f"an event is not JSON: {payload[:80]!r}")
            return
        if not isinstance(chunk, dict):
            self.fail(t_ns, "protocol", f"an event is not a JSON object: {payload[:80]!r}")
            return
        if chunk.get("error") is not None:
            self.fail(t_ns, "stream_error", error_text(chunk))
            return
        before = self.chunks
        self._chunk(t_ns, chunk)
        if self.chunks > before and self._lessons:
            self._learn(payload, chunk)

    def _learn(self, payload: bytes, chunk: dict[str, Any]) -> None:
        learnt = learn(payload, chunk)
        if learnt is not None:
            self._template = learnt
        if learnt is not None or self._template is None:
            self._lessons -= 1

    def _chunk(self, t_ns: int, chunk: dict[str, Any]) -> None:
        usage = chunk.get("usage")
        said: int | None = None
        if isinstance(usage, dict):
            said = self._usage(usage)
        timings = chunk.get("timings")
        if isinstance(timings, dict):
            said = count_of(timings.get("predicted_n"))
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return
        if not choices and not isinstance(timings, dict):
            return  # the closing usage: a total, not the arrival of a token
        chars = 0
        for choice in choices:
            if isinstance(choice, dict):
                chars += chars_of(choice)
                reason = choice.get("finish_reason")
                if isinstance(reason, str):
                    self.finish_reason = reason
        last = self.stream_tokens
        # A chunk without text still carries tokens (half a character, a special
        # token) if a running count, once begun, went up.
        if chars or (said is not None and last is not None and said > last):
            self._event(t_ns, said, chars)

    def _event(self, t_ns: int, said: int | None, chars: int) -> None:
        if self.t_first_ns is None:
            self.t_first_ns = t_ns
        self.t_last_ns = t_ns
        self.chunks += 1
        if said is None:
            self._progress.output_tokens += 1
            self._write(_pack(t_ns, self._index, NOT_SAID, chars, _CHUNK))
            return
        new = said - (self.chunks - 1 + self._beyond)
        self._beyond += new - 1
        self.stream_tokens = said
        self._progress.output_tokens += new
        self._write(_pack(t_ns, self._index, said, chars, _CHUNK))

    def _usage(self, usage: dict[str, Any]) -> int | None:
        before = self.isl_tokens, self.cached_tokens, self.reasoning_tokens
        self.isl_tokens = count_of(usage.get("prompt_tokens"))
        self.osl_tokens = count_of(usage.get("completion_tokens"))
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = count_of(details.get("cached_tokens"))
        details = usage.get("completion_tokens_details")
        if isinstance(details, dict):
            self.reasoning_tokens = count_of(details.get("reasoning_tokens"))
        if before != (self.isl_tokens, self.cached_tokens, self.reasoning_tokens):
            self._template = None  # it would leave the new counts as they are
        return self.osl_tokens
