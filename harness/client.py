"""One keep-alive HTTP connection that stamps the bytes of a streamed answer as they arrive."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
import orjson

from .stream.chunk import error_text

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .stream.answer import Answer
    from .stream.receiver import Receiver

_MAX_ERROR_BODY_BYTES: Final = 64 * 1024
_AFTER_DONE_S: Final = 1.0
"""How long after `[DONE]` we wait for the end of the HTTP message before giving up reuse."""
_HTTP_OK: Final = 200
_now_ns: Final = time.perf_counter_ns


class Connection(asyncio.Protocol):
    """
    A connection that carries one request at a time.

    Args:
        loop: runs it.
        receiver: counts its reads, and does them once `read_from` says so.
    """

    __slots__ = (
        "_answer",
        "_answered",
        "_between_chunks",
        "_chunked",
        "_deadline",
        "_deliver",
        "_done",
        "_error_body",
        "_fd",
        "_header_fault",
        "_keep_alive",
        "_length_known",
        "_loop",
        "_message_over",
        "_parser",
        "_paused",
        "_plain_error",
        "_receiver",
        "_sock",
        "_t_ns",
        "_transport",
        "quick",
        "requests",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, receiver: Receiver) -> None:
        self._loop = loop
        self._receiver = receiver
        self._sock: socket.socket | None = None
        self._fd = -1
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._paused = False
        self._t_ns = 0
        self.requests = 0
        self._forget()

    def _forget(self) -> None:
        self._message_over = False
        self._length_known = False
        self._chunked = False
        self._between_chunks = False
        self._keep_alive = False
        self._answered = False
        self._plain_error = False
        self._header_fault: tuple[str, str] | None = None
        self._error_body = b""
        self._deliver: Callable[[int, bytes], None] = self._keep_error
        self.quick: Callable[[int, bytes], bool] | None = None

    @property
    def usable(self) -> bool:
        """Open, and free for a request."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._answer is None
        )

    async def exchange(self, message: bytes, answer: Answer, *, timeout_s: float) -> bool:
        """
        Send *message* and fill *answer* until it has ended, well or badly; never raises for that.

        A server may close a kept connection just as we use it again. Then it has
        not seen the request, and RFC 9112 (9.3.1) lets a client send it anew.

        Args:
            message: the whole HTTP request.
            answer: told everything that happens.
            timeout_s: from now to the end of the answer.

        Returns:
            False: the connection had been used before and was closed without a
            byte; *answer* has not ended, and the request may be sent once more.
        """
        self._forget()
        self._answer = answer
        answer.reused_connection = self.requests > 0
        self.requests += 1
        self._done = self._loop.create_future()
        self._deadline = self._loop.call_later(timeout_s, self._expire, timeout_s)
        self._send(message)
        try:
            await self._done
        finally:
            self._deadline.cancel()
        return answer.t_end_ns is not None

    def read_from(self, sock: socket.socket) -> None:
        """
        Have *sock* read by the receiver instead of the transport.

        The socket is then written to directly, too, so that the stamp of `sent`
        is the kernel's taking the last byte. Under TLS only the transport can do either.
        """
        assert self._transport is not None  # noqa: S101 - the caller has connected it
        self._transport.pause_reading()
        self._sock, self._fd = sock, sock.fileno()
        self._receiver.add(sock, self)

    def abort(self, kind: str, message: str) -> None:
        """End the request in flight as a failure and close."""
        if self._answer is not None:
            self._answer.fail(_now_ns(), kind, message)
        self.close()

    def close(self) -> None:
        """Close at once; a request in flight must have been ended before."""
        self._receiver.remove(self._fd, self)
        if self._transport is not None:
            self._transport.abort()
        self._finish()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # uvloop's transports have the methods without the ancestry.
        self._transport = cast("asyncio.Transport", transport)
        # A TLS transport pauses at its limit, others above it. At 0 it would pause with nothing
        # to write, and say that the request has left only when the answer comes.
        secure = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if secure else 0)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._receiver.by_us += 1
        self.take(_now_ns(), data)

    def eof_received(self) -> None:  # noqa: D102
        self.lost(_now_ns(), "the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        reason = "the server closed the connection" if exc is None else f"{exc}"
        self.lost(_now_ns(), reason)
        self._transport = None

    def pause_writing(self) -> None:  # noqa: D102
        self._paused = True

    def resume_writing(self) -> None:  # noqa: D102
        self._paused = False
        answer = self._answer
        if answer is not None and answer.t_sent_ns is None:
            answer.sent(_now_ns())

    # httptools' side; an exception here would be wrapped, so faults are kept instead

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        if self._message_over:
            return
        name = name.lower()
        if name == b"content-length":
            self._length_known = True
        elif name == b"transfer-encoding":
            self._chunked = value.lower().endswith(b"chunked")
        elif name == b"content-encoding" and value.lower() != b"identity":
            self._header_fault = (
                "gzip",
                f"the stream is compressed ({value.decode('latin-1')}), which blurs token times",
            )
        elif name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            self._plain_error = kind != b"text/event-stream"

    def on_message_begin(self) -> None:  # noqa: D102
        if self._message_over:
            # A second answer to one request: the connection is out of step.
            self._deliver = _nowhere
            self._keep_alive = False

    def on_headers_complete(self) -> None:  # noqa: D102
        answer = self._answer
        if answer is not None and not self._message_over:
            answer.status = self._parser.get_status_code()
            if answer.status == _HTTP_OK and not self._plain_error and self._header_fault is None:
                self._deliver = answer.feed

    def on_chunk_header(self) -> None:  # noqa: D102
        self._between_chunks = False

    def on_chunk_complete(self) -> None:  # noqa: D102
        self._between_chunks = True

    def on_body(self, data: bytes) -> None:  # noqa: D102
        self._deliver(self._t_ns, data)

    def _keep_error(self, t_ns: int, data: bytes) -> None:
        """A body that is no event stream: the server's words on what went wrong."""
        del t_ns
        self._error_body = (self._error_body + data)[:_MAX_ERROR_BODY_BYTES]

    def on_message_complete(self) -> None:  # noqa: D102
        answer = self._answer
        if answer is not None and answer.status is not None and answer.status < _HTTP_OK:
            self._forget()  # 1xx: the real answer follows
            self._answered = True
            answer.status = None
        elif not self._message_over:
            self._message_over = True
            # The parser forgets this as soon as the message is over.
            self._keep_alive = bool(self._parser.should_keep_alive())

    # the exchange

    def take(self, t_ns: int, data: bytes) -> None:
        """Read bytes that were stamped *t_ns*."""
        answer = self._answer
        if answer is None:
            # Bytes nobody asked for: a late rest or a 408. The stream is out of step.
            self.close()
            return
        self._t_ns = t_ns
        self._answered = True
        self.quick = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # Rubbish after the end, or after the first fault, changes neither.
            self._keep_alive = False
            if not self._message_over and self._header_fault is None:
                answer.fail(t_ns, "protocol", f"the answer is not HTTP/1.1: {error}")
                self.close()
                return
        if answer.t_end_ns is None and not self._message_over and self._header_fault is None:
            # A chunk is complete, and whatever came after it would have to end a line to
            # end like this, and so be a header: the parser waits for a new chunk.
            if self._between_chunks and answer.repeating and data.endswith(b"\r\n"):
                self.quick = answer.quick
            return
        if self._header_fault is not None:
            answer.fail(t_ns, *self._header_fault)
            self.close()
        elif self._message_over:
            self._settle(t_ns)
        elif answer.error_kind is not None:
            self.close()
        elif answer.done and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = self._loop.call_later(_AFTER_DONE_S, self.close)

    def _settle(self, t_ns: int) -> None:
        """The HTTP message is over."""
        answer = self._answer
        assert answer is not None  # noqa: S101 - only called with a request in flight
        if answer.status != _HTTP_OK:
            answer.fail(t_ns, f"http_{answer.status}", self._server_says())
        elif self._plain_error:
            answer.fail(t_ns, "protocol", f"not an event stream: {self._server_says()}")
        else:
            answer.complete(t_ns)
        if self._keep_alive and answer.error_kind != "protocol":
            self._finish()
        else:
            self.close()

    def _server_says(self) -> str:
        try:
            return error_text(orjson.loads(self._error_body))
        except orjson.JSONDecodeError:
            return self._error_body.decode("utf-8", "replace").strip() or "(an empty body)"

    def lost(self, t_ns: int, reason: str) -> None:
        """The connection has ended; decide what that means for the answer."""
        answer = self._answer
        if answer is not None:
            until_close = answer.status == _HTTP_OK and not (self._chunked or self._length_known)
            if answer.done:
                answer.end(t_ns)
            elif answer.reused_connection and not self._answered:
                pass  # `exchange` tells its caller to try anew
            elif until_close and not self._plain_error:
                answer.complete(t_ns)
            elif answer.status is None:
                answer.fail(t_ns, "cut", f"no answer: {reason}")
            else:
                answer.fail(t_ns, "cut", f"{reason} in the middle of the answer")
        self.close()

    def _expire(self, timeout_s: float) -> None:
        self._receiver.turn()  # what has come in time counts, read or not
        self.abort("deadline", f"no end of the answer within {timeout_s:g} s")

    def _send(self, message: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - `usable` was asked before
        assert self._answer is not None  # noqa: S101 - set by the caller
        taken = 0
        # Before, not after: an answer is stamped by the kernel, and must not seem to have come
        # before its question if we are interrupted between the sending and its stamp.
        t_ns = _now_ns()
        if self._sock is not None:
            try:
                taken = self._sock.send(message)
            except BlockingIOError:
                taken = 0
            except OSError as error:
                self.lost(_now_ns(), f"cannot send: {error.strerror}")
                return
        if taken < len(message):
            self._transport.write(message[taken:])
            t_ns = _now_ns()
        # The transport may have paused and resumed in the meantime, and so said it already.
        if not self._paused and self._answer.t_sent_ns is None:
            self._answer.sent(t_ns)

    def _finish(self) -> None:
        self._answer = None
        self.quick = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def _nowhere(t_ns: int, data: bytes) -> None:
    del t_ns, data
