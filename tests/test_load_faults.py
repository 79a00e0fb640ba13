"""One request in fifty goes wrong, in every way the mock knows; none is lost or harms another."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import numpy as np

from harness.arrivals import Arrivals
from harness.journal import JournalWriter, read_journal
from harness.load.loop import run
from harness.load.plan import LoadPlan
from harness.load.progress import LoadProgress
from harness.load.trial import mock_process
from harness.mock.settings import FAULTS, MockSettings
from harness.mock.writelog import WriteKind, read_write_log
from harness.timeline import EVENT_DTYPE, EventKind, Request

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 2
COUNT = 50 * len(FAULTS) * ROUNDS
OSL = 8
SLOTS = 32
ERRORS = {
    **dict.fromkeys(("http_400", "http_404", "http_429", "http_500", "http_503"), ROUNDS),
    "cut": 2 * ROUNDS,  # cut in its middle; ended without reason, usage and [DONE]
    "deadline": ROUNDS,
    "stream_error": ROUNDS,
    "protocol": 2 * ROUNDS,  # an event that is no JSON; an answer that is no HTTP
    "gzip": ROUNDS,
}
"""`slow`, `no_done`, `no_usage` are no failures; `close` and `reset` hit a kept connection."""


def test_every_kind_of_failure_at_once_is_counted_and_harms_nobody_else(tmp_path: Path):
    traces = []
    journal = JournalWriter(tmp_path / "events", EVENT_DTYPE, {})
    mock = MockSettings(ttft_s=0.002, itl_s=0.001, faults=FAULTS, fault_every=50)
    with mock_process(mock, tmp_path / "writes") as endpoint:
        plan = LoadPlan(
            endpoint=endpoint,
            requests=(Request(index=i, prompt="x", max_osl_tokens=OSL) for i in itertools.count()),
            phase="measure",
            arrivals=Arrivals(pattern="concurrency", concurrency=SLOTS),
            request_count=COUNT,
            duration_s=None,
            request_timeout_s=3.0,
            fixed_length={"ignore_eos": True},
        )
        audit = run(
            plan,
            journal=journal,
            on_result=traces.append,
            progress=LoadProgress(),
            stop=threading.Event(),
        )
    journal.close()
    failed = sum(ERRORS.values())
    assert audit.errors == ERRORS
    assert audit.requests == {"ok": COUNT - failed, "failed": failed}
    assert audit.output_lengths == {"as_asked": COUNT - failed - ROUNDS, "not_said": ROUNDS}
    assert audit.stale_connections == 2 * ROUNDS
    assert sorted(trace.request for trace in traces) == list(range(COUNT))

    events = read_journal(tmp_path / "events", EVENT_DTYPE)[1]
    assert (events["kind"] == EventKind.END).sum() == COUNT
    good = [trace for trace in traces if trace.error_kind is None]
    assert {trace.chunks for trace in good} == {OSL}
    # No slot waits for the failure of another: apart from the stalls at the very end the
    # good requests took as long as the server took, by its own log.
    writes = read_write_log(tmp_path / "writes")
    wrote = writes[writes["kind"] == WriteKind.TOKENS]
    late_s = []
    for trace in good:
        theirs = wrote["t_ns"][wrote["index"] == trace.request]
        late_s.append(((trace.t_last_ns - trace.t_first_ns) - (theirs[-1] - theirs[0])) / 1e9)
    # Who waits for a request that stalls waits for its time-out; a busy machine delays by less.
    assert abs(np.median(late_s)) < 0.1 * plan.request_timeout_s
