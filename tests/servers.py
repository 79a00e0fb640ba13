"""Small faulty servers for tests, each on a port that the system chooses."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator

Handler = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving(answer: Callable[[Handler, int], None]) -> Iterator[str]:
    """
    Serve POST with *answer*, which gets the handler and the request's number.

    Yields:
        The base URL.
    """
    numbers = iter(range(10**9))

    class Own(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):
                answer(self, next(numbers))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def error_500(handler: Handler, _: int) -> None:
    """As a server whose model has crashed."""
    body = b'{"error": {"message": "CUDA out of memory"}}'
    handler.send_response(500)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _chunk(handler: Handler, data: dict) -> None:
    line = b"data: " + json.dumps(data).encode() + b"\n\n"
    handler.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    handler.wfile.flush()


def _begin(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def cut(handler: Handler, _: int) -> None:
    """As a server that dies in the middle of an answer."""
    _begin(handler)
    for word in ("a", "b"):
        _chunk(handler, {"choices": [{"delta": {"content": word}}]})
    handler.close_connection = True
    handler.connection.close()


def good(handler: Handler, _: int) -> None:
    """Four tokens and their usage."""
    _begin(handler)
    for word in "abcd":
        _chunk(handler, {"choices": [{"delta": {"content": word}}]})
    _chunk(handler, {"choices": [{"delta": {}, "finish_reason": "length"}]})
    _chunk(handler, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}})
    handler.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
