"""Several client processes are one load: nothing twice, nothing lost, one journal, one audit."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.arrivals import Arrivals
from harness.errors import ConfigError, EngineError
from harness.journal import JournalWriter, read_journal
from harness.load.plan import LoadPlan
from harness.load.processes import run_processes
from harness.load.progress import LoadProgress
from harness.load.trial import mock_process
from harness.mock.settings import MockSettings
from harness.timeline import EVENT_DTYPE, EventKind, Request

if TYPE_CHECKING:
    from pathlib import Path


def go(tmp_path: Path, endpoint, arrivals: Arrivals, *, on_result=None, cpus=(), **changes):
    traces = []
    stop = threading.Event()
    settings = {
        "endpoint": endpoint,
        "requests": (Request(index=i, prompt="x", max_osl_tokens=4) for i in itertools.count()),
        "phase": "measure",
        "arrivals": arrivals,
        "request_count": 41,
        "duration_s": None,
        "request_timeout_s": 30.0,
    }
    journal = JournalWriter(tmp_path / "events", EVENT_DTYPE, {})
    progress = LoadProgress()

    def take(trace) -> None:
        traces.append(trace)
        if on_result is not None:
            on_result(traces, stop)

    try:
        audit = run_processes(
            LoadPlan(**(settings | changes)),
            processes=2,
            shards=tmp_path,
            journal=journal,
            on_result=take,
            progress=progress,
            stop=stop,
            cpus=cpus,
        )
    finally:
        journal.close()
    return traces, read_journal(tmp_path / "events", EVENT_DTYPE)[1], audit, progress


QUICK = MockSettings(ttft_s=0.002, itl_s=0.001)


@pytest.mark.parametrize(
    "arrivals",
    [
        Arrivals(pattern="concurrency", concurrency=5),
        Arrivals(pattern="poisson", request_rate_per_s=400.0),
        Arrivals(pattern="max", concurrency=5),
    ],
)
def test_two_processes_are_one_load(tmp_path: Path, arrivals):
    with mock_process(QUICK, None) as endpoint:
        traces, rows, audit, progress = go(tmp_path, endpoint, arrivals)
    assert sorted(trace.request for trace in traces) == list(range(41))
    assert {trace.error_kind for trace in traces} == {None}
    assert Counter(rows["kind"].tolist()) == {1: 41, 2: 164, 3: 41}
    assert (np.diff(rows["t_ns"]) >= 0).all()
    assert audit.processes == 2
    assert audit.requests == {"ok": 41}
    assert (progress.sent, progress.finished, progress.output_tokens) == (41, 41, 164)
    assert [path.name for path in tmp_path.iterdir()] == ["events"]


def test_the_processes_are_bound_to_the_cores_they_are_told(tmp_path: Path):
    cpu = max(os.sched_getaffinity(0))
    seen = []

    def look(_traces, _stop) -> None:
        for child in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):  # it may be ending
                seen.append(os.sched_getaffinity(child.pid))

    (tmp_path / "barred").mkdir()
    with mock_process(QUICK, None) as endpoint:
        arrivals = Arrivals(pattern="concurrency", concurrency=5)
        go(tmp_path, endpoint, arrivals, cpus=[cpu], on_result=look)
        with pytest.raises(ConfigError, match="core 9999"):
            go(tmp_path / "barred", endpoint, arrivals, cpus=[9999])
    assert seen
    assert all(cpus == {cpu} for cpus in seen)


def test_an_open_loop_has_the_due_times_of_one_process(tmp_path: Path):
    """Which process sends a request must not change when it is due."""
    arrivals = Arrivals(pattern="constant", request_rate_per_s=500.0)
    with mock_process(QUICK, None) as endpoint:
        traces, *_ = go(tmp_path, endpoint, arrivals)
    due = sorted((trace.t_due_ns, trace.request) for trace in traces)
    assert [request for _, request in due] == list(range(41))
    assert {b[0] - a[0] for a, b in itertools.pairwise(due)} == {2_000_000}


def test_stop_reaches_all(tmp_path: Path):
    slow = MockSettings(ttft_s=0.01, itl_s=10.0, batch=False)

    def stop_after_ten(traces, stop) -> None:
        if len(traces) == 10:
            stop.set()

    with mock_process(slow, None) as endpoint:
        traces, rows, audit, _ = go(
            tmp_path,
            endpoint,
            Arrivals(pattern="concurrency", concurrency=8),
            on_result=stop_after_ten,
            requests=(
                Request(index=i, prompt="x", max_osl_tokens=1 if i < 10 else 99)
                for i in itertools.count()
            ),
            request_timeout_s=60.0,
        )
    assert len({trace.request for trace in traces}) == len(traces)
    assert audit.requests["interrupted"] == len(traces) - 10
    assert (rows["kind"] == EventKind.END).sum() == len(traces)


def test_giving_up_in_one_process_ends_all(tmp_path: Path):
    broken = MockSettings(faults=("http_500",), fault_every=1)
    with (
        mock_process(broken, None) as endpoint,
        pytest.raises(EngineError, match="in a row failed"),
    ):
        go(
            tmp_path,
            endpoint,
            Arrivals(pattern="concurrency", concurrency=4),
            max_failures_in_a_row=3,
            request_count=10_000,
        )
