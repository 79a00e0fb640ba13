"""Streams of a closed loop that send together are told from those that do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.streams_in_step import IN_STEP_RATIO, in_step_findings, together_ratio
from harness.timeline import Window

WINDOW = Window(name="steady", start_ns=0, end_ns=60_000_000_000)


def closed_loop(seed: int, streams: int, *, spread: float) -> pd.DataFrame:
    """Requests of streams that all begin together; lengths from 1 - *spread* of a second up."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(streams):
        t_s = 0.0
        while t_s < 70:
            took_s = 1 - spread * draw.random()
            rows.append((round(t_s * 1e9), round((t_s + took_s) * 1e9), 64))
            t_s += took_s
    return pd.DataFrame(rows, columns=["t_sent_ns", "t_end_ns", "osl_tokens"]).astype("Int64")


def codes(requests: pd.DataFrame, window: Window = WINDOW, **load) -> list[str]:
    chosen = {"pattern": "concurrency", "concurrency": 8, **load}
    return [finding.code for finding in in_step_findings(window, requests, chosen)]


@pytest.mark.parametrize("streams", [4, 8, 64, 128])
def test_streams_of_equal_answers_stay_in_step_and_others_come_apart(streams):
    assert codes(closed_loop(1, streams, spread=0.0), concurrency=streams) == ["streams_in_step"]
    later = Window(name="steady", start_ns=20_000_000_000, end_ns=60_000_000_000)
    for seed in range(5):
        apart = closed_loop(seed, streams, spread=0.2)
        assert codes(apart, later, concurrency=streams) == []


@pytest.mark.parametrize("streams", [4, 8, 64])
def test_of_streams_that_know_nothing_of_each_other_a_tenth_sends_together(streams):
    draw = np.random.default_rng(streams)
    sent_ns = np.sort((draw.random(streams * 500) * 500e9).astype(np.int64))
    # Each of the others sends once a residence; one more is counted of the stream itself.
    expected = 0.1 * streams / (streams - 1)
    assert together_ratio(sent_ns, 1.0, streams) == pytest.approx(expected, rel=0.1)
    assert expected < IN_STEP_RATIO


def test_nothing_is_said_where_it_cannot_be_known_or_means_nothing():
    in_step = closed_loop(1, 8, spread=0.0)
    assert codes(in_step) == ["streams_in_step"]
    assert codes(in_step, pattern="rate") == []
    assert codes(closed_loop(1, 3, spread=0.0), concurrency=3) == []
    assert codes(in_step.assign(osl_tokens=1)) == []
    short = Window(name="steady", start_ns=0, end_ns=1_500_000_000)
    assert codes(in_step, short) == ["streams_in_step"]
    assert codes(in_step, Window(name="steady", start_ns=0, end_ns=900_000_000)) == []
    assert codes(in_step.iloc[:0]) == []
    unfinished = in_step.assign(t_end_ns=pd.NA)
    assert codes(unfinished) == []
