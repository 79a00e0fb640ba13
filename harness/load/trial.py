"""Drives the mock server once and holds the client's stamps against the server's own log."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.arrivals import Arrivals
from harness.contracts import Endpoint
from harness.errors import EngineError
from harness.journal import JournalWriter, read_journal
from harness.mock.writelog import WriteKind, read_write_log
from harness.timeline import EVENT_DTYPE, EventKind, Request, RequestTrace

from .loop import run
from .plan import LoadPlan
from .progress import LoadProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.mock.settings import MockSettings

    from .audit import LoadAudit

_PROMPT = "How many joules does a token cost on this machine? " * 8
_STOP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    One load on the mock server.

    Args:
        streams: requests in flight.
        osl_tokens: tokens of each answer.
        duration_s: how long requests are issued.
        settings: of the mock.
        client_cpu: core the client is bound to; None: any.
        mock_cpu: core the mock is bound to; None: any.
    """

    streams: int
    osl_tokens: int
    duration_s: float
    settings: MockSettings
    client_cpu: int | None = None
    mock_cpu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """
    How true the client's clock was. Errors are client minus server's log.

    A number is None where the trial had nothing to compute it from.

    Args:
        requests: that succeeded.
        failed: that did not, for whatever reason.
        tokens: chunks matched one to one with the log (one token each).
        unmatched_requests: succeeded, but with another number of chunks than the log has.
        offered_tok_per_s: streams · osl / (ttft + osl · itl): what the settings ask for.
        delivered_tok_per_s: tokens written by the mock over the span of the writes.
        cpu_s: of the client.
        cpu_ms_per_1000_tokens: of the client.
        cpu_share_ratio: of one core.
        lag_p50_s: client's stamp minus the mock's, which is taken just before the write.
        lag_p99_s: the same.
        lag_max_s: the same.
        ttft_error_p50_s: (first - sent) minus (first write - received).
        ttft_error_p99_s: the same.
        tpot_error_mean_ratio: mean over requests of client's tpot / log's tpot - 1.
        tpot_error_p99_ratio: 99th percentile of its absolute value.
        itl_p50_s: gaps between chunks as the client saw them.
        itl_p99_s: the same.
        true_itl_p50_s: as the mock wrote them.
        true_itl_p99_s: the same.
        audit: the client's own.
    """

    requests: int
    failed: int
    tokens: int
    unmatched_requests: int
    offered_tok_per_s: float
    delivered_tok_per_s: float | None
    cpu_s: float
    cpu_ms_per_1000_tokens: float | None
    cpu_share_ratio: float | None
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None
    ttft_error_p50_s: float | None
    ttft_error_p99_s: float | None
    tpot_error_mean_ratio: float | None
    tpot_error_p99_ratio: float | None
    itl_p50_s: float | None
    itl_p99_s: float | None
    true_itl_p50_s: float | None
    true_itl_p99_s: float | None
    audit: LoadAudit


@contextmanager
def mock_process(
    settings: MockSettings, log: Path | None, *, cpu: int | None = None
) -> Iterator[Endpoint]:
    """
    A mock server in a process of its own; ended on leaving.

    Raises:
        EngineError: it did not start; its own words are in the message.
    """
    argv = [sys.executable, "-P", "-m", "harness.mock", json.dumps(asdict(settings))]
    process = subprocess.Popen(
        argv if log is None else [*argv, str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101 - asked for above
    try:
        port = process.stdout.readline().strip()
        if not port:
            words = process.stderr.read() if process.stderr else ""
            raise EngineError(
                f"the mock server did not start: {words.strip()}",
                remedy="choose another port, or none",
            )
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        url = f"http://{settings.host}:{port}"
        yield Endpoint(base_url=url, endpoint_type="chat", model=settings.model)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def run_trial(trial: Trial, folder: Path) -> TrialResult:
    """
    Run *trial* in this process, against a mock in another.

    Args:
        trial: what to do.
        folder: gets `events` and `writes`; must have neither yet.

    Raises:
        EngineError: the mock did not start, or everything failed.
    """
    traces: list[RequestTrace] = []
    journal = JournalWriter(folder / "events", EVENT_DTYPE, {})
    before = os.sched_getaffinity(0)
    if trial.client_cpu is not None:
        os.sched_setaffinity(0, {trial.client_cpu})
    try:
        with mock_process(trial.settings, folder / "writes", cpu=trial.mock_cpu) as endpoint:
            audit = run(
                _plan(trial, endpoint),
                journal=journal,
                on_result=traces.append,
                progress=LoadProgress(),
                stop=threading.Event(),
            )
    finally:
        os.sched_setaffinity(0, before)
        journal.close()
    events = read_journal(folder / "events", EVENT_DTYPE)[1]
    return judge(trial, traces, events, read_write_log(folder / "writes"), audit)


def _plan(trial: Trial, endpoint: Endpoint) -> LoadPlan:
    settings = trial.settings
    answer_s = settings.ttft_s + trial.osl_tokens * settings.itl_s
    ramp_s = 0.0 if settings.batch else min(answer_s, trial.duration_s / 4)
    return LoadPlan(
        endpoint=endpoint,
        requests=(
            Request(index=index, prompt=_PROMPT, max_osl_tokens=trial.osl_tokens)
            for index in itertools.count()
        ),
        phase="measure",
        arrivals=Arrivals(pattern="concurrency", concurrency=trial.streams, ramp_up_s=ramp_s),
        request_count=None,
        duration_s=trial.duration_s,
        request_timeout_s=30 + 4 * answer_s,
        fixed_length={"ignore_eos": True},
    )


def judge(
    trial: Trial,
    traces: list[RequestTrace],
    events: npt.NDArray[Any],
    writes: npt.NDArray[Any],
    audit: LoadAudit,
) -> TrialResult:
    """
    Compare what the client saw with what the mock wrote.

    Args:
        trial: what was done.
        traces: one a request.
        events: rows of EVENT_DTYPE.
        writes: rows of WRITE_DTYPE; its `index` is the client's request.
        audit: the client's own.
    """
    chunks = events[events["kind"] == EventKind.CHUNK]
    tokens = writes[writes["kind"] == WriteKind.TOKENS]
    good = {trace.request: trace for trace in traces if trace.error_kind is None}
    seen = _by_request(chunks, "request")
    wrote = _by_request(tokens, "index")
    received = {
        int(row["index"]): int(row["t_ns"]) for row in writes[writes["kind"] == WriteKind.RECEIVED]
    }
    lags, ttft, tpot, gaps, true_gaps = [], [], [], [], []
    unmatched = 0
    for index, trace in good.items():
        ours, theirs = seen.get(index), wrote.get(index)
        if ours is None or theirs is None or len(ours) != len(theirs):
            unmatched += 1
            continue
        lags.append(ours - theirs)
        gaps.append(np.diff(ours))
        true_gaps.append(np.diff(theirs))
        if trace.t_sent_ns is not None:
            ttft.append((ours[0] - trace.t_sent_ns) - (theirs[0] - received[index]))
        if len(ours) > 1:
            tpot.append((ours[-1] - ours[0]) / (theirs[-1] - theirs[0]) - 1)
    matched = sum(map(len, lags))
    span_s = (int(tokens["t_ns"].max() - tokens["t_ns"].min()) / 1e9) if len(tokens) > 1 else 0.0
    lag = _quantiles_s(lags)
    error = _quantiles_s([np.array(ttft)] if ttft else [])
    itl, true_itl = _quantiles_s(gaps), _quantiles_s(true_gaps)
    settings = trial.settings
    answer_s = settings.ttft_s + (trial.osl_tokens - 1) * settings.itl_s
    return TrialResult(
        requests=len(good),
        failed=len(traces) - len(good),
        tokens=matched,
        unmatched_requests=unmatched,
        offered_tok_per_s=trial.streams * trial.osl_tokens / answer_s,
        delivered_tok_per_s=len(tokens) / span_s if span_s else None,
        cpu_s=audit.cpu_s,
        cpu_ms_per_1000_tokens=audit.cpu_s * 1e6 / len(chunks) if len(chunks) else None,
        cpu_share_ratio=audit.cpu_share_ratio,
        lag_p50_s=lag[0],
        lag_p99_s=lag[1],
        lag_max_s=lag[2],
        ttft_error_p50_s=error[0],
        ttft_error_p99_s=error[1],
        tpot_error_mean_ratio=float(np.mean(tpot)) if tpot else None,
        tpot_error_p99_ratio=float(np.quantile(np.abs(tpot), 0.99)) if tpot else None,
        itl_p50_s=itl[0],
        itl_p99_s=itl[1],
        true_itl_p50_s=true_itl[0],
        true_itl_p99_s=true_itl[1],
        audit=audit,
    )


def _by_request(rows: npt.NDArray[Any], key: str) -> dict[int, npt.NDArray[np.int64]]:
    if not len(rows):
        return {}
    order = np.argsort(rows[key], kind="stable")
    index = rows[key][order]
    cuts = np.flatnonzero(np.diff(index)) + 1
    parts = np.split(rows["t_ns"][order], cuts)
    return {int(index[start]): part for start, part in zip([0, *cuts], parts, strict=True)}


def _quantiles_s(
    parts: list[npt.NDArray[Any]],
) -> tuple[float | None, float | None, float | None]:
    values = np.concatenate(parts) if parts else np.array([])
    if not len(values):
        return None, None, None
    p50, p99 = np.quantile(values, [0.5, 0.99]) / 1e9
    return float(p50), float(p99), float(values.max() / 1e9)
