"""The mock engine answers as real ones do, fails as told, and logs what it wrote."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, get_args

import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.arrivals import Arrivals
from harness.contracts import Endpoint
from harness.errors import ConfigError
from harness.journal import JournalWriter, read_journal
from harness.load.loop import drive
from harness.load.plan import LoadPlan
from harness.load.progress import LoadProgress
from harness.mock.metrics import PATHS, Counts, exposition
from harness.mock.server import MockServer
from harness.mock.settings import Dialect, MockSettings
from harness.mock.writelog import WriteKind, read_write_log
from harness.timeline import EVENT_DTYPE, EventKind, Request

if TYPE_CHECKING:
    from pathlib import Path

QUICK = {"ttft_s": 0.001, "itl_s": 0.0005}


def load(endpoint, count=8, *, osl=5, **changes) -> LoadPlan:
    settings = {
        "endpoint": endpoint,
        "requests": (
            Request(index=i, prompt="12345678", max_osl_tokens=osl) for i in itertools.count()
        ),
        "phase": "measure",
        "arrivals": Arrivals(pattern="concurrency", concurrency=4),
        "request_count": count,
        "duration_s": None,
        "request_timeout_s": 3.0,
        "fixed_length": {"ignore_eos": True},
        "max_failures_in_a_row": None,
    }
    return LoadPlan(**(settings | changes))


def against_mock(tmp_path: Path, mock: MockSettings, count=8, *, kind="chat", body=None, **changes):
    """Load a mock; returns traces, events, write log, audit and the server's counts."""

    async def main():
        server = MockServer(mock, log=tmp_path / "writes")
        port = await server.start()
        endpoint = Endpoint(
            base_url=f"http://127.0.0.1:{port}",
            endpoint_type=kind,
            model="mock",
            extra_body=body or {},
        )
        journal = JournalWriter(tmp_path / "events", EVENT_DTYPE, {})
        traces = []
        try:
            audit = await drive(
                load(endpoint, count, **changes),
                journal=journal,
                on_result=traces.append,
                progress=LoadProgress(),
                stop=asyncio.Event(),
            )
        finally:
            journal.close()
            await server.stop()
        return traces, audit, server.counts

    traces, audit, counts = asyncio.run(main())
    events = read_journal(tmp_path / "events", EVENT_DTYPE)[1]
    return traces, events, read_write_log(tmp_path / "writes"), audit, counts


@pytest.mark.parametrize("kind", ["chat", "completions"])
@pytest.mark.parametrize("batch", [True, False])
def test_it_answers_in_full_and_counts_what_it_did(tmp_path: Path, kind, batch):
    traces, events, writes, audit, counts = against_mock(
        tmp_path, MockSettings(batch=batch, **QUICK), kind=kind
    )
    assert {trace.error_kind for trace in traces} == {None}
    assert {(trace.isl_tokens, trace.osl_tokens, trace.chunks) for trace in traces} == {(2, 5, 5)}
    assert {trace.finish_reason for trace in traces} == {"length"}
    assert audit.connections_opened == 4
    assert (counts.prompt, counts.generated, counts.generated_finished) == (16, 40, 40)
    assert (counts.requests, counts.running, counts.waiting) == (8, 0, 0)
    assert Counter(writes["kind"].tolist()) == {1: 8, 2: 40, 3: 8}
    assert (events["kind"] == EventKind.CHUNK).sum() == 40


def test_its_log_and_the_clients_events_are_one_to_one_and_in_order_of_cause(tmp_path: Path):
    _, events, writes, _, _ = against_mock(tmp_path, MockSettings(**QUICK))
    for index in range(8):
        seen = events["t_ns"][(events["request"] == index) & (events["kind"] == EventKind.CHUNK)]
        wrote = writes["t_ns"][(writes["index"] == index) & (writes["kind"] == WriteKind.TOKENS)]
        assert len(seen) == len(wrote) == 5
        assert (seen >= wrote).all()


@pytest.mark.parametrize(
    "body", [{"timings_per_token": True}, {"stream_options": {"continuous_usage_stats": True}}]
)
def test_running_counts_in_two_dialects_equal_usage(tmp_path: Path, body):
    traces, events, _, _, _ = against_mock(
        tmp_path, MockSettings(tokens_per_chunk=3, **QUICK), body=body, osl=10
    )
    assert {(trace.stream_tokens, trace.osl_tokens) for trace in traces} == {(10, 10)}
    rows = events[(events["request"] == 0) & (events["kind"] == EventKind.CHUNK)]
    assert rows["tokens"].tolist() == [3, 6, 9, 10]


def test_reasoning_comes_first_and_is_output(tmp_path: Path):
    traces, events, _, _, _ = against_mock(tmp_path, MockSettings(reasoning_tokens=2, **QUICK))
    assert {trace.chunks for trace in traces} == {5}
    assert (events["chars"][events["kind"] == EventKind.CHUNK] > 0).all()


def test_it_stops_by_itself_unless_told_to_ignore_the_end(tmp_path: Path):
    settings = MockSettings(natural_osl_tokens=3, **QUICK)
    traces, *_ = against_mock(tmp_path, settings, fixed_length={})
    assert {(trace.osl_tokens, trace.finish_reason) for trace in traces} == {(3, "stop")}
    for name in ("writes", "events"):
        (tmp_path / name).unlink()
    traces, *_, audit, _ = against_mock(tmp_path, settings)
    assert {(trace.osl_tokens, trace.finish_reason) for trace in traces} == {(5, "length")}
    assert audit.output_lengths == {"as_asked": 8}


def test_a_full_server_lets_requests_wait(tmp_path: Path):
    """One slot: the answers do not overlap in the log."""
    _, _, writes, _, counts = against_mock(tmp_path, MockSettings(slots=1, **QUICK))
    order = writes["number"][writes["kind"] == WriteKind.TOKENS]
    assert (np.diff(order) != 0).sum() == 7
    assert counts.requests == 8


FATAL = {
    "http_400": "http_400",
    "http_404": "http_404",
    "http_429": "http_429",
    "http_500": "http_500",
    "http_503": "http_503",
    "close": "cut",
    "reset": "cut",
    "cut": "cut",
    "stall": "deadline",
    "stream_error": "stream_error",
    "bad_json": "protocol",
    "gzip": "gzip",
    "not_http": "protocol",
    "no_finish": "cut",
}
HARMLESS = ["slow", "no_done", "no_usage"]


@pytest.mark.parametrize(("fault", "kind"), FATAL.items())
def test_each_fault_has_its_error_kind_and_harms_only_its_own_request(tmp_path: Path, fault, kind):
    settings = MockSettings(faults=(fault,), fault_every=4, **QUICK)
    traces, _, _, audit, counts = against_mock(
        tmp_path, settings, request_timeout_s=2.0 if fault == "stall" else 30.0
    )
    assert len(traces) == 8
    stale = audit.stale_connections  # a connection closed on reuse is tried anew, once
    assert audit.errors.get(kind, 0) + stale == 2
    assert audit.requests["ok"] == 8 - audit.errors.get(kind, 0)
    assert counts.running == 0


@pytest.mark.parametrize("fault", HARMLESS)
def test_faults_that_are_no_failures(tmp_path: Path, fault):
    settings = MockSettings(faults=(fault,), fault_every=4, **QUICK)
    traces, _, _, audit, _ = against_mock(tmp_path, settings)
    assert audit.requests == {"ok": 8}
    without_usage = [trace for trace in traces if trace.osl_tokens is None]
    assert len(without_usage) == (2 if fault == "no_usage" else 0)
    assert audit.output_lengths.get("not_said", 0) == len(without_usage)


def test_one_in_fifty_failing_in_every_way_loses_and_hangs_nothing(tmp_path: Path):
    faults = (*FATAL, *HARMLESS)
    count = 50 * len(faults)
    settings = MockSettings(faults=faults, fault_every=50, **QUICK)
    traces, _, _, audit, counts = against_mock(
        tmp_path, settings, count, arrivals=Arrivals(pattern="concurrency", concurrency=32)
    )
    assert sorted(trace.request for trace in traces) == list(range(count))
    expected = Counter(FATAL.values())
    retried = audit.stale_connections
    assert sum(audit.errors.values()) + retried == sum(expected.values())
    assert audit.errors == dict(expected) | {"cut": expected["cut"] - retried}
    assert audit.requests["ok"] == count - sum(audit.errors.values())
    assert counts.running == 0


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_dialect_is_an_exposition_that_holds_the_numbers(dialect):
    counts = Counts(prompt=11, generated=22, generated_finished=20, requests=3, running=4)
    text = exposition(dialect, counts, model='a "model"').decode()
    values = [
        sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    ]
    assert 11 in values
    assert {20, 22} & set(values)
    assert PATHS[dialect].endswith("/metrics")


async def get(port: int, request: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return int(head.split()[1]), body


def post(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def test_its_other_paths():
    async def main():
        server = MockServer(MockSettings(dialect="tensorrt_llm", **QUICK), log=None)
        port = await server.start()
        try:
            health = await get(port, b"GET /health HTTP/1.1\r\n\r\n")
            models = await get(port, b"GET /v1/models HTTP/1.1\r\n\r\n")
            metrics = await get(port, b"GET /prometheus/metrics HTTP/1.1\r\n\r\n")
            nowhere = await get(port, b"GET /nowhere HTTP/1.1\r\n\r\n")
            rubbish = await get(port, post("/v1/completions", b"not json"))
            ask = orjson.dumps({"prompt": [1, 2, 3], "max_tokens": 4})
            at_once = await get(port, post("/v1/completions", ask))
        finally:
            await server.stop()
        return health, models, metrics, nowhere, rubbish, at_once

    health, models, metrics, nowhere, rubbish, at_once = asyncio.run(main())
    assert health[0] == 200
    assert orjson.loads(models[1])["data"][0]["id"] == "mock"
    assert b"trtllm_generation_tokens_total" in metrics[1]
    assert nowhere[0] == 404
    assert rubbish[0] == 400
    usage = orjson.loads(at_once[1])["usage"]
    assert usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    "wrong", [{"faults": ("on_fire",)}, {"dialect": "klingon"}, {"itl_s": 0.0}, {"slots": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        MockSettings(**wrong)
