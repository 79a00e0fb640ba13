"""The client's certificate: verdicts on made-up trials, and one real, short climb."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from harness.arrivals import Arrivals
from harness.cli import joulemark
from harness.engines.fake import Fake
from harness.load import certificate
from harness.load.audit import Tally
from harness.load.trial import Trial, judge
from harness.mock.metrics import Counts, exposition
from harness.mock.settings import MockSettings
from harness.mock.writelog import WRITE_DTYPE, WriteKind
from harness.timeline import EVENT_DTYPE, EventKind, RequestTrace

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000
TRIAL = Trial(
    streams=2, osl_tokens=3, duration_s=1.0, settings=MockSettings(ttft_s=0.02, itl_s=0.01)
)
TICKS = (20, 30, 40)


def trace(index: int, **changes) -> RequestTrace:
    values = dict.fromkeys(field.name for field in dataclasses.fields(RequestTrace))
    values |= {"request": index, "phase": "measure", "t_sent_ns": 0, "t_end_ns": 60 * MS}
    return RequestTrace(**(values | changes))


def judged(*, late=(0.0, 0.0, 0.0), received=0.0, traces=None, drop=0):
    """Two requests of three tokens written at 20, 30, 40 ms and seen *late* ms after each."""
    events = np.zeros(6 - drop, EVENT_DTYPE)
    pairs = list(itertools.product((0, 1), zip(TICKS, late, strict=True)))
    for row, (index, (tick, lateness)) in zip(events, pairs[: 6 - drop], strict=True):
        row["t_ns"], row["request"] = round((tick + lateness) * MS), index
        row["kind"] = EventKind.CHUNK
    writes = np.zeros(8, WRITE_DTYPE)
    logged = [(index, tick, WriteKind.TOKENS) for index, (tick, _) in pairs]
    logged += [(index, received, WriteKind.RECEIVED) for index in (0, 1)]
    for row, (index, tick, kind) in zip(writes, logged, strict=True):
        row["t_ns"], row["index"], row["kind"] = round(tick * MS), index, kind
    tally = Tally(t_start_ns=0)
    tally.close(opened=2, before_start=2, stamps=(5, 0))
    audit = tally.audit(Arrivals(pattern="concurrency", concurrency=2))
    return judge(TRIAL, traces or [trace(0), trace(1)], events, writes, audit)


def test_a_perfect_client_errs_by_nothing():
    result = judged()
    assert (result.lag_p50_s, result.lag_max_s) == (0.0, 0.0)
    assert (result.ttft_error_p50_s, result.tpot_error_mean_ratio) == (0.0, 0.0)
    assert (result.itl_p50_s, result.true_itl_p50_s) == (0.01, 0.01)
    assert result.tokens == 6


def test_constant_lateness_is_lag_and_ttft_error_but_no_tpot_error():
    result = judged(late=(2.0, 2.0, 2.0), received=0.5)
    assert result.lag_p50_s == pytest.approx(0.002)
    assert result.ttft_error_p50_s == pytest.approx(0.0025)  # the request's way counts, too
    assert result.tpot_error_mean_ratio == pytest.approx(0.0)


def test_growing_lateness_is_tpot_error():
    """10 ms a token written, (22 - 20)/2 = 11 ms a token seen."""
    assert judged(late=(0.0, 1.0, 2.0)).tpot_error_mean_ratio == pytest.approx(0.1)


def test_a_request_whose_chunks_do_not_match_the_log_is_counted_not_compared():
    result = judged(drop=1)
    assert (result.unmatched_requests, result.tokens) == (1, 3)


def test_failures_are_counted_apart():
    result = judged(traces=[trace(0), trace(1, error_kind="cut")])
    assert (result.requests, result.failed, result.tokens) == (1, 1, 3)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"lag_p50_s": 0.003}, "lag p50"),
        ({"lag_p99_s": 0.02}, "lag p99"),
        ({"tpot_error_mean_ratio": -0.02}, "TPOT"),
        ({"ttft_error_p50_s": 0.006}, "TTFT"),
        ({"ttft_error_p50_s": None}, "could not be measured"),
        ({"failed": 1}, "1 request failed"),
        ({"unmatched_requests": 1}, "other chunks"),
        ({"delivered_tok_per_s": 100.0}, "100 tokens/s"),
    ],
)
def test_a_verdict_names_the_limit_that_broke(changes, word):
    good = dataclasses.replace(judged(), delivered_tok_per_s=150.0, offered_tok_per_s=150.0)
    why_not = certificate.verdict(dataclasses.replace(good, **changes))
    assert why_not is None if word is None else word in why_not


def test_a_client_that_could_not_keep_up_is_not_certified_however_true_its_stamps():
    good = dataclasses.replace(judged(), delivered_tok_per_s=150.0, offered_tok_per_s=150.0)
    late = dataclasses.replace(good, audit=dataclasses.replace(good.audit, loop_lag_p99_s=0.2))
    assert "could not keep up" in (certificate.verdict(late) or "")


def test_a_real_climb_is_kept_and_recalled(tmp_path: Path, monkeypatch):
    """Real processes and times; only the form is asserted, no speed of this machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = CliRunner().invoke(
        joulemark, ["certify", "--json", "--budget", "5", "--streams", "2"], catch_exceptions=False
    )
    document = orjson.loads(done.stdout)
    assert document["steps"][0]["result"]["requests"] >= 2
    assert document["steps"][0]["result"]["unmatched_requests"] == 0
    assert document["streams"] in {0, 2}
    recalled = certificate.recall(certificate.default_path())
    assert recalled is not None
    assert recalled["streams"] == document["streams"]


def test_a_certificate_of_another_host_is_passed_over(tmp_path: Path):
    path = tmp_path / "client.json"
    made = certificate.Certificate(
        streams=64,
        tok_per_s=6000.0,
        steps=(),
        stopped_by="the ladder's end",
        host=certificate.host_facts(),
        t_wall_ns=1,
        joulemark="0",
        limits={},
    )
    certificate.store(made, path)
    assert certificate.recall(path) is not None
    certificate.store(dataclasses.replace(made, host={"cpu": "another"}), path)
    assert certificate.recall(path) is None
    path.write_bytes(b"{")
    assert certificate.recall(path) is None
    assert certificate.recall(tmp_path / "none") is None


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "tensorrt_llm", "llama_cpp", "dynamo"])
def test_the_fake_engine_reads_its_own_counters_in_every_dialect(dialect):
    counters = Fake(dialect=dialect).counters()
    counts = Counts(prompt=11, generated=22, generated_finished=22)
    read = counters.read(exposition(dialect, counts, model="mock").decode())
    assert (read.computed, read.cached, read.generated) == (11, 0, 22)


def test_the_fake_engine_has_every_setting_of_the_mock_with_the_same_default():
    fake = {field.name: field.default for field in dataclasses.fields(Fake)}
    mock = {field.name: field.default for field in dataclasses.fields(MockSettings)}
    # What it pretends to run on is no setting of a server.
    assert fake == mock | {"prefill_gpus": (), "decode_gpus": ()}


def test_the_fake_engine_says_that_it_is_one():
    fake = Fake().prepare(port=1234)
    assert fake.facts()["engine"] == "fake"
    assert "none" in fake.facts()["weights"]
    assert fake.runs_on == "elsewhere"
    assert fake.launch().ready_url == "http://127.0.0.1:1234/health"
