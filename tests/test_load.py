"""The load loop against a small server: every request once, stops in time, audits itself."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import resource
import threading
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest

from harness.arrivals import Arrivals
from harness.contracts import Endpoint
from harness.errors import ConfigError, EngineError
from harness.journal import JournalWriter, read_journal
from harness.load.loop import drive, run
from harness.load.plan import LoadPlan
from harness.load.progress import LoadProgress
from harness.stream.descriptors import allow_sockets
from harness.timeline import EVENT_DTYPE, EventKind, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OK = "ok"
HANG = "hang"
CUT = "cut"
FAIL = "500"


def events(tokens: int) -> bytes:
    parts = [json.dumps({"choices": [{"delta": {"content": "x"}}]}) for _ in range(tokens)]
    usage = {"prompt_tokens": 7, "completion_tokens": tokens}
    parts += [json.dumps({"choices": [], "usage": usage}), "[DONE]"]
    return b"".join(b"data: " + part.encode() + b"\n\n" for part in parts)


@asynccontextmanager
async def serving(behave: Callable[[int], str] = lambda _: OK):
    """Answers request number n as `behave(n)` says; yields the endpoint and what it has seen."""
    seen: list[dict] = []
    connections: list[int] = []
    tasks = set()
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        connections.append(len(connections))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = orjson.loads(await reader.readexactly(length))
                seen.append(body)
                does = behave(next(numbers))
                start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                data = events(body["max_tokens"])
                if does == OK:
                    writer.write(start + b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
                elif does == FAIL:
                    writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\nno kv")
                else:
                    writer.write(start + b"Content-Length: 99999\r\n\r\n" + data[:60])
                    await writer.drain()
                    if does == HANG:
                        await asyncio.Event().wait()
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    try:
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}", endpoint_type="chat", model="m")
        yield endpoint, seen, connections
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def endless():
    return (Request(index=i, prompt=f"p{i}", max_osl_tokens=3) for i in itertools.count())


def plan(endpoint, **changes) -> LoadPlan:
    settings = {
        "endpoint": endpoint,
        "requests": endless(),
        "phase": "measure",
        "arrivals": Arrivals(pattern="concurrency", concurrency=4),
        "request_count": 20,
        "duration_s": None,
        "request_timeout_s": 30.0,
        "seed": 1,
    }
    return LoadPlan(**(settings | changes))


async def go(plan, path, stop=None, during=None):
    """Drive *plan*; returns the traces, the journal's rows, the audit and the progress."""
    journal = JournalWriter(path / "events", EVENT_DTYPE, {})
    traces = []
    progress = LoadProgress()
    stop = stop or asyncio.Event()
    if during is not None:
        on_result = lambda trace: (traces.append(trace), during(traces, stop))  # noqa: E731
    else:
        on_result = traces.append
    try:
        audit = await drive(
            plan, journal=journal, on_result=on_result, progress=progress, stop=stop
        )
    finally:
        journal.close()
    return traces, read_journal(path / "events", EVENT_DTYPE)[1], audit, progress


def test_a_closed_loop_sends_each_request_once_and_in_order(tmp_path: Path):
    async def main():
        async with serving() as (endpoint, seen, connections):
            return *(await go(plan(endpoint), tmp_path)), seen, connections

    traces, rows, audit, progress, seen, connections = asyncio.run(main())
    assert sorted(trace.request for trace in traces) == list(range(20))
    assert {trace.error_kind for trace in traces} == {None}
    assert [body["messages"][0]["content"] for body in seen[:4]] == ["p0", "p1", "p2", "p3"]
    assert Counter(rows["kind"].tolist()) == {1: 20, 2: 60, 3: 20}
    assert progress.output_tokens == 60
    assert (progress.sent, progress.finished, progress.failed) == (20, 20, 0)
    assert progress.in_flight == 0
    assert len(connections) == audit.connections_opened == audit.connections_before_start == 4
    assert audit.requests == {"ok": 20}
    assert audit.output_lengths == {"as_asked": 20}
    assert audit.requests_on_reused == 16
    assert 0 < audit.delivered_concurrency <= 4
    orjson.dumps(dataclasses.asdict(audit))


def test_each_body_asks_for_a_stream_with_usage_and_pins_its_length(tmp_path: Path):
    async def main():
        async with serving() as (endpoint, seen, _):
            changed = dataclasses.replace(
                endpoint, extra_body={"temperature": 0, "stream_options": {"extra": 1}}
            )
            await go(plan(changed, request_count=1, fixed_length={"ignore_eos": True}), tmp_path)
            return seen[0]

    body = asyncio.run(main())
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True, "extra": 1},
        "max_tokens": 3,
        "messages": [{"role": "user", "content": "p0"}],
        "ignore_eos": True,
        "temperature": 0,
    }


def test_an_open_loop_keeps_its_schedule_while_the_server_hangs(tmp_path: Path):
    """A closed loop would wait: this is the difference between the two."""

    async def main():
        async with serving(lambda n: HANG if n == 0 else OK) as (endpoint, _, _):
            return await go(
                plan(
                    endpoint,
                    arrivals=Arrivals(pattern="constant", request_rate_per_s=200.0),
                    request_count=20,
                    request_timeout_s=3.0,
                ),
                tmp_path,
            )

    traces, _, audit, _ = asyncio.run(main())
    due = sorted(trace.t_due_ns for trace in traces)
    assert [b - a for a, b in itertools.pairwise(due)] == [5_000_000] * 19
    assert Counter(trace.error_kind for trace in traces) == {None: 19, "deadline": 1}
    assert all(trace.t_sent_ns >= trace.t_due_ns for trace in traces)
    assert audit.requested_rate_per_s == pytest.approx(200.0)


def test_a_cap_on_an_open_loop_shows_as_scheduling_lag(tmp_path: Path):
    async def main():
        async with serving() as (endpoint, _, connections):
            result = await go(
                plan(endpoint, arrivals=Arrivals(pattern="max", concurrency=2)), tmp_path
            )
            return *result, connections

    traces, _, audit, _, connections = asyncio.run(main())
    assert len(traces) == 20
    assert len({trace.t_due_ns for trace in traces}) == 1
    assert len(connections) == 2
    assert audit.scheduling_lag_max_s > audit.scheduling_lag_p50_s > 0


def test_a_trace_is_played_at_its_own_times(tmp_path: Path):
    requests = [
        Request(index=i, prompt="x", max_osl_tokens=1, t_offset_s=t)
        for i, t in enumerate([0, 0.02, 0.05])
    ]

    async def main():
        async with serving() as (endpoint, _, _):
            return await go(
                plan(
                    endpoint,
                    requests=iter(requests),
                    arrivals=Arrivals(pattern="trace", time_scale=0.5),
                    request_count=None,
                    duration_s=60,
                ),
                tmp_path,
            )

    traces, *_ = asyncio.run(main())
    due = sorted(trace.t_due_ns for trace in traces)
    assert [t - due[0] for t in due] == [0, 10_000_000, 25_000_000]


def test_a_trace_without_times_is_refused(tmp_path: Path):
    async def main() -> None:
        async with serving() as (endpoint, _, _):
            await go(plan(endpoint, arrivals=Arrivals(pattern="trace")), tmp_path)

    with pytest.raises(ConfigError, match="request 0"):
        asyncio.run(main())


def test_stop_closes_what_is_in_flight_and_reports_it(tmp_path: Path):
    """Requests 4 and on hang; when four are through, the user stops."""

    async def main():
        async with serving(lambda n: OK if n < 4 else HANG) as (endpoint, _, _):

            def during(traces, stop) -> None:
                if len(traces) == 4:
                    stop.set()

            async with asyncio.timeout(20):
                return await go(plan(endpoint, request_timeout_s=60), tmp_path, during=during)

    traces, rows, audit, progress = asyncio.run(main())
    kinds = Counter(trace.error_kind for trace in traces)
    assert kinds[None] == 4
    assert set(kinds) == {None, "interrupted"}
    assert len(traces) == len({trace.request for trace in traces}) == progress.sent
    assert (rows["kind"] == EventKind.END).sum() == len(traces)
    assert audit.requests["interrupted"] == kinds["interrupted"]
    assert progress.failed == 0


def test_a_duration_ends_the_issuing_and_lets_the_rest_finish(tmp_path: Path):
    async def main():
        async with serving() as (endpoint, _, _):
            return await go(plan(endpoint, request_count=None, duration_s=0.2), tmp_path)

    traces, _, audit, _ = asyncio.run(main())
    assert {trace.error_kind for trace in traces} == {None}
    assert audit.wall_s < 20
    assert len({trace.request for trace in traces}) == len(traces) > 4


def test_a_load_without_an_end_is_refused():
    endpoint = Endpoint(base_url="http://127.0.0.1:1", endpoint_type="chat", model="m")
    with pytest.raises(ConfigError, match="never end"):
        plan(endpoint, request_count=None)


def test_failures_are_counted_by_kind_and_harm_nobody_else(tmp_path: Path):
    def behave(n: int) -> str:
        return {0: FAIL, 1: CUT}.get(n % 10, OK)

    async def main():
        async with serving(behave) as (endpoint, _, _):
            return await go(plan(endpoint, request_count=100), tmp_path)

    traces, _, audit, _ = asyncio.run(main())
    assert len(traces) == 100
    assert audit.requests == {"ok": 80, "failed": 20}
    assert audit.errors == {"http_500": 10, "cut": 10}


def test_nothing_but_failures_gives_up_and_names_the_last(tmp_path: Path):
    async def main() -> None:
        async with serving(lambda _: FAIL) as (endpoint, _, _):
            await go(plan(endpoint, request_count=1000, max_failures_in_a_row=5), tmp_path)

    with pytest.raises(EngineError, match=r"5 requests in a row failed.*http_500: no kv"):
        asyncio.run(main())


def test_a_server_that_is_not_there_gives_up_soon(tmp_path: Path):
    endpoint = Endpoint(base_url="http://127.0.0.1:9", endpoint_type="chat", model="m")

    async def main() -> None:
        async with asyncio.timeout(30):
            await go(plan(endpoint), tmp_path)

    with pytest.raises(EngineError, match=r"refused.*127\.0\.0\.1:9"):
        asyncio.run(main())


def test_a_short_load_against_nobody_still_reports_every_request(tmp_path: Path):
    endpoint = Endpoint(base_url="http://127.0.0.1:9", endpoint_type="chat", model="m")
    traces, rows, audit, _ = asyncio.run(go(plan(endpoint, request_count=6), tmp_path))
    assert [trace.error_kind for trace in traces] == ["refused"] * 6
    assert (rows["kind"] == EventKind.END).sum() == 6
    assert audit.errors == {"refused": 6}
    assert audit.scheduling_lag_p50_s is None
    assert audit.delivered_rate_per_s is None


def test_token_ids_go_to_completions_only(tmp_path: Path):
    requests = [Request(index=0, prompt=(1, 2, 3), max_osl_tokens=1)]

    async def main(endpoint_type):
        async with serving() as (endpoint, seen, _):
            typed = dataclasses.replace(endpoint, endpoint_type=endpoint_type)
            await go(plan(typed, requests=iter(requests)), tmp_path)
            return seen[0]["prompt"]

    assert asyncio.run(main("completions")) == [1, 2, 3]
    (tmp_path / "events").unlink()
    with pytest.raises(ConfigError, match="token ids"):
        asyncio.run(main("chat"))


def test_the_runner_for_callers_without_a_loop(tmp_path: Path):
    """The server lives in a thread of its own; Ctrl-C is a threading.Event."""
    started = threading.Event()
    stopped = threading.Event()
    where = []

    def server() -> None:
        async def main() -> None:
            async with serving() as (endpoint, _, _):
                where.append(endpoint)
                started.set()
                await asyncio.to_thread(stopped.wait)

        asyncio.run(main())

    thread = threading.Thread(target=server)
    thread.start()
    started.wait()
    journal = JournalWriter(tmp_path / "events", EVENT_DTYPE, {})
    traces = []
    stop = threading.Event()
    try:
        audit = run(
            plan(where[0], request_count=None, duration_s=30),
            journal=journal,
            on_result=lambda trace: (
                traces.append(trace),
                stop.set() if len(traces) == 50 else None,
            ),
            progress=LoadProgress(),
            stop=stop,
        )
    finally:
        journal.close()
        stopped.set()
        thread.join()
    assert audit.wall_s < 25
    assert audit.requests["ok"] >= 50
    assert len({trace.request for trace in traces}) == len(traces)


def test_more_connections_than_the_system_allows_are_refused_by_name(monkeypatch):
    """The soft limit is raised, the hard one is not ours to raise."""
    limits = [(64, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    allow_sockets(500)
    assert limits[-1] == (564, 1000)
    allow_sockets(100)
    assert limits[-1] == (564, 1000)
    with pytest.raises(ConfigError, match="1064 open files, the limit is 1000"):
        allow_sockets(1000)
