"""Fuzzes the path from bytes to token events: `python tests/fuzz_sse.py -max_total_time=300`.

Not collected by pytest. Any bytes must end in a counted answer or a named
failure, and cutting them elsewhere must not change what was counted.
Atheris needs clang and is no dependency: without it, our own generator makes the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import sys
import tempfile
import time
from pathlib import Path

try:
    import atheris

    _instrumented = atheris.instrument_imports(include=["harness"])
except ImportError:
    atheris = None
    _instrumented = contextlib.nullcontext()

with _instrumented:
    from harness.client import Connection
    from harness.load.progress import LoadProgress
    from harness.stream.answer import Answer
    from harness.stream.receiver import Receiver
from harness.timeline import EVENT_DTYPE, Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = [
    HEAD,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"b\\n"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}],"usage":{"completion_tokens":2}}\n\n',
    b'data: {"choices":[{"text":"x"}],"timings":{"predicted_n":3}}\n\n',
    b'data: {"choices":[{"text":"yz"}],"timings":{"predicted_n":4}}\n\n',
    b'data: {"choices":[{"delta":{"content":"bc"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"d"}}],"usage":{"completion_tokens":1}}\n\n',
    b'data: {"choices":[{"delta":{"content":"ef"}}],"usage":{"completion_tokens":2}}\n\n',
    b'data: {"choices":[{"delta":{"reasoning":"r"},"finish_reason":"stop"}]}\r\n\r\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":99999999999}}\n\n',
    b'data: {"choices":{},"usage":[]}\n\n',
    b'data: {"choices":[null,{"delta":[]}]}\n\n',
    b'data: {"error":{"message":null}}\n\n',
    b"data: [DONE]\n\n",
    b"data: [1,2]\n\ndata:\ndata\n\n: c\n\n",
    b"0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
]


class Nowhere(asyncio.Transport):
    """A transport that takes everything and remembers only that it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        """Nothing to limit."""

    def write(self, data) -> None:
        """Taken."""

    def abort(self) -> None:
        """Closed."""
        self.closed = True

    def is_closing(self) -> bool:
        """As abort has left it."""
        return self.closed


recognised = 0
"""Chunks that were not parsed; a fuzz run that has none has not tried that path."""


def feed(connection: Connection, data: bytes) -> None:
    """As the receiver does."""
    global recognised  # noqa: PLW0603 - one count of one script
    quick = connection.quick
    if quick is None or not quick(0, data):
        connection.take(0, data)
    else:
        recognised += 1


def replay(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> tuple:
    """What *pieces*, then the end of the connection, come to; the times left out."""
    connection = Connection(loop, Receiver(loop))
    transport = Nowhere()
    connection.connection_made(transport)
    rows = bytearray()
    request = Request(index=1, prompt="", max_osl_tokens=3)
    answer = Answer(
        request, phase="measure", t_due_ns=0, write_event=rows.extend, progress=LoadProgress()
    )

    async def go() -> bool:
        exchange = loop.create_task(connection.exchange(b"", answer, timeout_s=60))
        await asyncio.sleep(0)
        for piece in pieces:
            if transport.closed:
                break
            feed(connection, piece)
        if not transport.closed:
            connection.connection_lost(None)
        return await exchange

    assert loop.run_until_complete(go()), "a fresh connection must always end its answer"
    trace = answer.trace()
    assert len(rows) % EVENT_DTYPE.itemsize == 0
    events = [bytes(rows[at + 8 : at + EVENT_DTYPE.itemsize]) for at in range(0, len(rows), 24)]
    return events, trace.error_kind, trace.osl_tokens, trace.stream_tokens, trace.chunks


def check(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    """Whole, byte by byte, chunk by chunk and cut at random: one outcome."""
    whole = replay(loop, [data])
    chunks = replay(loop, [piece for piece in re.split(rb"(?<=\n\n\r\n)", data) if piece])
    single = replay(loop, [data[at : at + 1] for at in range(len(data))])
    draw = random.Random(len(data))  # noqa: S311 - cuts of a fuzz case
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(4))
    edges = [0, *cuts, len(data)]
    some = replay(loop, [data[a:b] for a, b in itertools.pairwise(edges) if a < b])
    assert whole == single == some == chunks, data


def made(draw: random.Random) -> bytes:
    """Bytes near the grammar: known pieces, framed or not, damaged now and then."""
    data = draw.choice(PIECES[:3])
    for _ in range(draw.randrange(8)):
        piece = draw.choice(PIECES)
        if draw.random() < 0.7:
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        # Neighbours of one shape are what the client recognises without parsing.
        data += piece * draw.choice([1, 1, 3])
    if draw.random() < 0.5 and data:
        at = draw.randrange(len(data))
        data = data[:at] + draw.randbytes(draw.randrange(3)) + data[at + draw.randrange(3) :]
    return data


def main() -> None:
    """With atheris if it is there, else with our own generator, for -max_total_time seconds."""
    seconds = 300.0
    for argument in sys.argv[1:]:
        if argument.startswith("-max_total_time="):
            seconds = float(argument.partition("=")[2])
    loop = asyncio.new_event_loop()
    if atheris is None:
        end_s = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end_s:
            check(loop, made(random.Random(count)))  # noqa: S311 - reproducible cases
            count += 1
        sys.stdout.write(
            f"{count} cases in {seconds:g} s, no crash, no difference; {recognised} chunks were "
            "recognised without parsing\n"
        )
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-sse-") as corpus:
        for number in range(200):
            case = made(random.Random(number))  # noqa: S311 - reproducible cases
            (Path(corpus) / f"{number}").write_bytes(case)
        atheris.Setup([*sys.argv, corpus], lambda data: check(loop, bytes(data)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
