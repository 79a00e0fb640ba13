"""One connection against a scripted server: what is counted, stamped and called what."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.client import Connection
from harness.contracts import Endpoint
from harness.errors import ConfigError
from harness.load.progress import LoadProgress
from harness.stream.answer import Answer
from harness.stream.dial import Dialer, DialError
from harness.stream.openai_api import build_body, build_head, finish_message
from harness.stream.proxy import find_proxy
from harness.stream.receiver import Receiver
from harness.timeline import EVENT_DTYPE, EventKind, Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: Any) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return b"data: " + text.encode() + b"\n\n"


def content(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]} | more)


STOP = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = event(
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }
)
DONE = event("[DONE]")
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})


def stream(*events: bytes) -> bytes:
    return HEAD + b"".join(map(chunk, events)) + END


@asynccontextmanager
async def scripted(*replies: bytes | None, close: bool = False):
    """Answers each request with the next bytes; None: says nothing and keeps the line open."""
    script = list(replies)
    served: list[bytes] = []
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                served.append(head + await reader.readexactly(length))
                reply = script.pop(0)
                writer.write(reply or b"")
                await writer.drain()
                if close and not script:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint(base_url=f"http://127.0.0.1:{port}", endpoint_type="chat", model="m"), served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(endpoint, connection=None, timeout_s=5.0, rows=None):
    """One exchange; returns the trace, the events, the connection and whether it was answered."""
    dialer = Dialer(endpoint, loop=asyncio.get_running_loop(), timeout_s=5)
    connection = connection or await dialer.dial()
    rows = bytearray() if rows is None else rows
    request = Request(index=5, prompt="hello", max_osl_tokens=3, isl_tokens=9)
    answer = Answer(
        request, phase="measure", t_due_ns=1, write_event=rows.extend, progress=LoadProgress()
    )
    body = build_body(request, endpoint, {})
    head = build_head(endpoint, forwarded=dialer.forwarded)
    message = finish_message(head, body, request_id="x")
    answered = await connection.exchange(message, answer, timeout_s=timeout_s)
    trace = answer.trace() if answered else None
    return trace, np.frombuffer(bytes(rows), EVENT_DTYPE), connection, answered


def run(*replies: bytes | None, close: bool = False, timeout_s: float = 5.0):
    async def main():
        async with scripted(*replies, close=close) as (endpoint, _):
            trace, rows, connection, _ = await ask(endpoint, timeout_s=timeout_s)
            usable = connection.usable
            connection.close()
            return trace, rows, usable

    return asyncio.run(main())


def test_a_whole_answer():
    trace, rows, usable = run(
        stream(ROLE, content("Hi"), content(" you"), content("!"), STOP, USAGE, DONE)
    )
    assert trace.error_kind is None
    assert (trace.isl_tokens, trace.osl_tokens, trace.cached_tokens) == (11, 3, 4)
    assert trace.reasoning_tokens == 2
    assert (trace.finish_reason, trace.status, trace.chunks) == ("stop", 200, 3)
    assert trace.stream_tokens is None
    assert [EventKind(kind).name for kind in rows["kind"]] == [
        "SENT",
        "CHUNK",
        "CHUNK",
        "CHUNK",
        "END",
    ]
    assert rows["chars"].tolist() == [0, 2, 4, 1, 0]
    assert rows["tokens"].tolist() == [-1, -1, -1, -1, 3]
    assert (rows["request"] == 5).all()
    assert trace.t_sent_ns <= trace.t_first_ns <= trace.t_last_ns <= trace.t_end_ns
    assert (np.diff(rows["t_ns"]) >= 0).all()
    assert usable


def test_reasoning_counts_as_output_and_only_once():
    both = {"choices": [{"delta": {"reasoning": "abc", "reasoning_content": "abc"}}]}
    one = {"choices": [{"delta": {"reasoning": "de"}}]}
    trace, rows, _ = run(stream(event(both), event(one), content("x"), STOP, USAGE, DONE))
    assert rows["chars"][rows["kind"] == EventKind.CHUNK].tolist() == [3, 2, 1]
    assert trace.t_first_ns == rows["t_ns"][1]


def test_tool_calls_count_as_output():
    call = {
        "choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]
    }
    _, rows, _ = run(stream(event(call), STOP, USAGE, DONE))
    assert rows["chars"][rows["kind"] == EventKind.CHUNK].tolist() == [3]


def test_running_counts_of_llama_cpp_and_the_token_without_text():
    """The last token may be half a character: it has no text but is counted on the last chunk."""
    trace, rows, _ = run(
        stream(
            content("a", timings={"predicted_n": 1}),
            content("b", timings={"predicted_n": 2}),
            STOP,
            event(
                {
                    "choices": [],
                    "timings": {"predicted_n": 3},
                    "usage": {"prompt_tokens": 1, "completion_tokens": 3},
                }
            ),
            DONE,
        )
    )
    assert trace.stream_tokens == trace.osl_tokens == 3
    assert rows["tokens"][rows["kind"] == EventKind.CHUNK].tolist() == [1, 2, 3]
    assert rows["chars"][rows["kind"] == EventKind.CHUNK].tolist() == [1, 1, 0]


def test_running_counts_of_vllm():
    trace, rows, _ = run(
        stream(
            event(
                {"choices": [{"delta": {"role": "assistant"}}], "usage": {"completion_tokens": 0}}
            ),
            content("ab", usage={"prompt_tokens": 1, "completion_tokens": 2}),
            content("c", usage={"prompt_tokens": 1, "completion_tokens": 3}),
            event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}),
            DONE,
        )
    )
    assert trace.stream_tokens == 3
    assert rows["tokens"][rows["kind"] == EventKind.CHUNK].tolist() == [2, 3]


def test_usage_on_the_finish_chunk_is_no_token_event():
    last = {
        "choices": [{"delta": {}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3},
    }
    trace, rows, _ = run(stream(content("a"), event(last)))
    assert (trace.error_kind, trace.osl_tokens, trace.chunks) == (None, 3, 1)
    assert trace.stream_tokens is None
    assert rows["kind"].tolist() == [1, 2, 3]


def test_a_missing_usage_is_none_not_zero():
    trace, _, _ = run(stream(content("a"), STOP, DONE))
    assert (trace.error_kind, trace.osl_tokens, trace.isl_tokens) == (None, None, None)


def test_a_missing_done_is_forgiven_if_the_server_said_why_it_stopped():
    trace, _, usable = run(stream(content("a"), STOP))
    assert trace.error_kind is None
    assert usable


def test_the_connection_is_used_again():
    async def main():
        async with scripted(stream(content("a"), STOP, DONE), stream(content("b"), STOP, DONE)) as (
            endpoint,
            served,
        ):
            first, _, connection, _ = await ask(endpoint)
            second, _, again, _ = await ask(endpoint, connection)
            assert again is connection
            connection.close()
            return first, second, served

    first, second, served = asyncio.run(main())
    assert (first.reused_connection, second.reused_connection) == (False, True)
    assert (first.error_kind, second.error_kind) == (None, None)
    assert len(served) == 2


def test_a_kept_connection_that_was_closed_is_reported_unanswered():
    async def main():
        async with scripted(stream(content("a"), STOP, DONE), b"", close=True) as (endpoint, _):
            _, _, connection, _ = await ask(endpoint)
            _, _, _, answered = await ask(endpoint, connection)
            return answered, connection.usable

    assert asyncio.run(main()) == (False, False)


FAILURES = [
    ("cut", b"", True),
    ("cut", HEAD + chunk(content("a")), True),
    ("cut", stream(content("a")), False),
    ("cut", HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"") + content("a"), True),
    ("stream_error", stream(content("a"), event({"error": {"message": "out of memory"}})), False),
    ("stream_error", HEAD + chunk(event({"error": "plain"})), False),
    ("protocol", stream(event("not json")), False),
    ("protocol", stream(event("[1]")), False),
    ("protocol", b"SSH-2.0-OpenSSH_9\r\n", False),
    (
        "protocol",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        False,
    ),
    ("gzip", HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), False),
    ("http_500", b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nboom", False),
    ("http_404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False),
    ("http_307", b"HTTP/1.1 307 Away\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", False),
    ("deadline", None, False),
    ("deadline", HEAD + chunk(content("a")), False),
]


@pytest.mark.parametrize(("kind", "reply", "close"), FAILURES)
def test_every_failure_has_its_name_and_one_end(kind, reply, close):
    trace, rows, _ = run(reply, close=close, timeout_s=0.2 if kind == "deadline" else 5.0)
    assert trace.error_kind == kind
    assert trace.error
    assert (rows["kind"] == EventKind.END).sum() == 1
    assert rows["kind"][-1] == EventKind.END


def test_the_servers_words_are_in_the_error():
    body = b'{"error":{"message":"model m does not exist","code":404}}'
    trace, _, usable = run(b"HTTP/1.1 404 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert trace.error == "model m does not exist"
    assert trace.status == 404
    assert usable


def test_a_stream_that_ends_with_the_connection_is_whole_if_it_said_why_it_stopped():
    head = HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")
    trace, _, usable = run(head + content("a") + STOP, close=True)
    assert trace.error_kind is None
    assert not usable


def test_a_server_that_never_ends_the_message_after_done_costs_no_failure():
    trace, _, _ = run(HEAD + chunk(content("a")) + chunk(STOP) + chunk(DONE))
    assert trace.error_kind is None
    assert trace.osl_tokens is None


def test_an_informational_answer_is_not_the_answer():
    trace, _, _ = run(b"HTTP/1.1 100 Continue\r\n\r\n" + stream(content("a"), STOP, DONE))
    assert (trace.error_kind, trace.status) == (None, 200)


def test_a_large_request_is_sent_whole_and_stamped_after_its_last_byte():
    async def main():
        async with scripted(stream(content("a"), STOP, DONE)) as (endpoint, served):
            dialer = Dialer(endpoint, loop=asyncio.get_running_loop(), timeout_s=5)
            connection = await dialer.dial()
            rows = bytearray()
            request = Request(index=0, prompt="x" * 20_000_000, max_osl_tokens=1)
            answer = Answer(
                request,
                phase="measure",
                t_due_ns=0,
                write_event=rows.extend,
                progress=LoadProgress(),
            )
            body = build_body(request, endpoint, {})
            message = finish_message(build_head(endpoint), body, request_id="x")
            await connection.exchange(message, answer, timeout_s=20)
            connection.close()
            return answer.trace(), len(served[0]), len(message)

    trace, got, sent = asyncio.run(main())
    assert trace.error_kind is None
    assert got == sent
    assert trace.t_sent_ns <= trace.t_first_ns


WHOLE = stream(
    ROLE,
    content("Hé", usage={"completion_tokens": 1}) + content("b", usage={"completion_tokens": 2}),
    content("\U0001f389", usage={"completion_tokens": 3}),
    STOP,
    USAGE,
    DONE,
)


class Collector(asyncio.Transport):
    """A transport that goes nowhere."""

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def write(self, data):
        pass

    def abort(self):
        pass

    def is_closing(self):
        return False


def feed(connection: Connection, data: bytes) -> None:
    """As the receiver does."""
    quick = connection.quick
    if quick is None or not quick(0, data):
        connection.take(0, data)


def replay(pieces: list[bytes]) -> tuple[list[tuple[int, ...]], Any]:
    """Feed *pieces* to a connection, each in a read of its own."""

    async def main():

        loop = asyncio.get_running_loop()
        connection = Connection(loop, Receiver(loop))
        connection.connection_made(Collector())
        rows = bytearray()
        answer = Answer(
            Request(index=1, prompt="", max_osl_tokens=3),
            phase="measure",
            t_due_ns=0,
            write_event=rows.extend,
            progress=LoadProgress(),
        )
        exchange = loop.create_task(connection.exchange(b"", answer, timeout_s=5))
        await asyncio.sleep(0)
        for piece in pieces:
            feed(connection, piece)
        await exchange
        table = np.frombuffer(bytes(rows), EVENT_DTYPE)
        events = [
            (int(r["request"]), int(r["tokens"]), int(r["chars"]), int(r["kind"])) for r in table
        ]
        trace = answer.trace()
        return events, (trace.osl_tokens, trace.stream_tokens, trace.chunks, trace.error_kind)

    return asyncio.run(main())


EXPECTED = replay([WHOLE])


def test_the_whole_is_what_it_should_be():
    assert EXPECTED[1] == (3, 3, 3, None)


def test_a_body_cut_at_every_byte_gives_identical_token_events():
    for cut in range(1, len(WHOLE)):
        assert replay([WHOLE[:cut], WHOLE[cut:]]) == EXPECTED, cut


def test_a_body_read_byte_by_byte_gives_identical_token_events():
    assert replay([WHOLE[i : i + 1] for i in range(len(WHOLE))]) == EXPECTED


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=20))
def test_a_body_cut_anywhere_gives_identical_token_events(cuts):
    edges = [0, *sorted(set(cuts)), len(WHOLE)]
    assert replay([WHOLE[a:b] for a, b in itertools.pairwise(edges)]) == EXPECTED


def test_a_refused_connection_is_called_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def main() -> None:
            endpoint = Endpoint(base_url=url, endpoint_type="chat", model="m")
            await Dialer(endpoint, loop=asyncio.get_running_loop(), timeout_s=5).dial()

        with pytest.raises(DialError) as error:
            asyncio.run(main())
    assert error.value.kind == "refused"


def test_a_name_without_address_is_called_dns():
    async def main() -> None:
        endpoint = Endpoint(base_url="http://nowhere.invalid", endpoint_type="chat", model="m")
        await Dialer(endpoint, loop=asyncio.get_running_loop(), timeout_s=5).dial()

    with pytest.raises(DialError) as error:
        asyncio.run(main())
    assert error.value.kind == "dns"


def test_a_plain_server_asked_for_tls_is_called_tls():
    async def main() -> None:
        async def answer_rubbish(reader, writer) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer_rubbish, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        secure = Endpoint(base_url=f"https://127.0.0.1:{port}", endpoint_type="chat", model="m")
        try:
            await Dialer(secure, loop=asyncio.get_running_loop(), timeout_s=5).dial()
        finally:
            server.close()

    with pytest.raises(DialError) as error:
        asyncio.run(main())
    assert error.value.kind == "tls"


@asynccontextmanager
async def listening(handle, host="127.0.0.1", context=None):
    """A server whose connections are all closed before the loop ends; yields its port."""
    tasks = set()

    async def serve(reader, writer) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handle(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, made by openssl."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:engine.test",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


def secure_server(folder: Path) -> ssl.SSLContext:
    key, cert = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    writer.write(stream(content("a"), content("b"), STOP, USAGE, DONE))
    await reader.read()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("trusted", [True, False])
def test_tls(tmp_path: Path, monkeypatch, trusted):
    context = secure_server(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    async def main():
        async with listening(answer_once, "localhost", context) as port:
            url = f"https://localhost:{port}"
            trace, rows, connection, _ = await ask(
                Endpoint(base_url=url, endpoint_type="chat", model="m")
            )
            connection.close()
            return trace, rows

    if not trusted:
        with pytest.raises(DialError) as error:
            asyncio.run(main())
        assert error.value.kind == "tls"
        return
    trace, rows = asyncio.run(main())
    assert (trace.error_kind, trace.chunks) == (None, 2)
    assert rows["kind"].tolist() == [1, 2, 2, 3]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("loop_of", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_under_tls_a_request_is_stamped_as_sent_before_it_is_answered(
    tmp_path: Path, monkeypatch, loop_of
):
    context = secure_server(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    asked, written = asyncio.Event(), asyncio.Event()

    async def answer_when_told(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        async with asyncio.timeout(5):
            await written.wait()
        writer.write(stream(content("a"), STOP, DONE))
        await reader.read()

    async def main():
        async with listening(answer_when_told, "localhost", context) as port:
            url = f"https://localhost:{port}"
            rows = bytearray()
            asking = asyncio.create_task(
                ask(Endpoint(base_url=url, endpoint_type="chat", model="m"), rows=rows)
            )
            await asked.wait()
            before = bytes(rows)
            written.set()
            _, _, connection, _ = await asking
            connection.close()
            return np.frombuffer(before, EVENT_DTYPE)["kind"].tolist()

    with asyncio.Runner(loop_factory=loop_of) as runner:
        assert runner.run(main()) == [EventKind.SENT]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_forwards_plain_requests_and_tunnels_tls(tmp_path: Path, monkeypatch, secure):
    """The name engine.test has no address: only the proxy can have taken us there."""
    seen = []
    context = secure_server(tmp_path) if secure else None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    async def main():
        async def proxy(reader, writer) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", engine_port)
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                far_writer.write(head)

            async def pump(source, sink) -> None:
                while data := await source.read(65536):
                    sink.write(data)

            try:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            finally:
                far_writer.transport.abort()

        async with (
            listening(answer_once, context=context) as engine_port,
            listening(proxy) as port,
        ):
            for name in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(name, f"http://user:p%40ss@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            scheme = "https" if secure else "http"
            trace, _, connection, _ = await ask(
                Endpoint(base_url=f"{scheme}://engine.test", endpoint_type="chat", model="m")
            )
            connection.close()
            return trace

    trace = asyncio.run(main())
    assert trace.error_kind is None
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in seen[0]
    start = (
        b"CONNECT engine.test:443 " if secure else b"POST http://engine.test/v1/chat/completions "
    )
    assert seen[0].startswith(start)


def test_a_proxy_that_refuses_is_named(monkeypatch):
    async def main():
        async def refuse(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            await reader.read()

        async with listening(refuse) as port:
            monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
            endpoint = Endpoint(base_url="https://engine.test", endpoint_type="chat", model="m")
            await Dialer(endpoint, loop=asyncio.get_running_loop(), timeout_s=5).dial()

    with pytest.raises(DialError, match="403 Forbidden") as error:
        asyncio.run(main())
    assert error.value.kind == "refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_host_is_never_asked_for_through_a_proxy(monkeypatch, host):
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    endpoint = Endpoint(base_url=f"http://{host}:8000", endpoint_type="chat", model="m")
    assert find_proxy(endpoint) is None


def test_a_proxy_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://proxy.test:1080")
    endpoint = Endpoint(base_url="http://engine.test", endpoint_type="chat", model="m")
    with pytest.raises(ConfigError, match="socks5"):
        find_proxy(endpoint)


def test_a_bearer_key_and_own_headers_are_sent():
    async def main():
        async with scripted(stream(content("a"), STOP, DONE)) as (endpoint, served):
            endpoint_with = dataclasses.replace(
                endpoint, api_key="sk-1", headers={"user-agent": "mine", "X-Team": "a"}
            )
            _, _, connection, _ = await ask(endpoint_with)
            connection.close()
            return served[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")

    lines = asyncio.run(main())
    assert "Authorization: Bearer sk-1" in lines
    assert "X-Team: a" in lines
    assert [line for line in lines if line.lower().startswith("user-agent")] == ["user-agent: mine"]


@pytest.mark.parametrize("headers", [{"X": "a\r\nEvil: 1"}, {"X": "\u20ac"}])
def test_headers_http_cannot_carry_are_refused(headers):
    endpoint = Endpoint(base_url="http://h", endpoint_type="chat", model="m", headers=headers)
    with pytest.raises(ConfigError):
        build_head(endpoint)
