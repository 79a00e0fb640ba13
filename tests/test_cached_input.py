"""Input that a prefix cache served is counted, and warned of where prompts do not explain it."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import config
from harness.cached_input import cached_findings, input_counts
from harness.errors import ConfigError
from harness.workload_summary import peeked


def requests(isl, cached) -> pd.DataFrame:
    return pd.DataFrame({"isl_tokens": isl, "cached_tokens": cached}).astype("Int64")


def counters(before, after) -> list[dict]:
    return [
        {"mark": "token_counters", "when": when, "computed": 0, "generated": 0, "cached": value}
        for when, value in (("before", before), ("after", after))
    ]


def test_what_the_server_said_of_each_request_counts_first():
    assert input_counts(requests([100, 50], [64, 0]), counters(0, 999)) == (150, 64)


@pytest.mark.parametrize(
    ("marks", "cached"),
    [
        (counters(10.0, 42.0), 32),
        (counters(None, None), None),
        ([], None),
        (counters(1, 2)[:1], None),
    ],
)
def test_else_the_engines_own_counters_count_and_nobody_is_not_none(marks, cached):
    assert input_counts(requests([100, 50], [64, None]), marks) == (150, cached)


def test_without_lengths_nothing_is_known():
    assert input_counts(requests([None], [None]), []) == (None, None)


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1))
def test_a_warning_comes_exactly_where_more_was_cached_than_the_prompts_have_in_common(
    read, share, expected
):
    cached = int(share * read)
    found = cached_findings(read, cached, expected)
    assert bool(found) == (cached / read > (expected or 0) + 0.05)
    assert all(finding.severity == "warning" for finding in found)


def test_unknown_is_no_finding():
    assert cached_findings(None, None, 0.0) == []
    assert cached_findings(100, None, 0.0) == []
    assert cached_findings(0, 0, 0.0) == []


def settings(**workload):
    return config.parse(
        {
            "engine": {"kind": "fake"},
            "workload": workload,
            "load": {"concurrency": 1, "request_count": 1},
        },
        name="t",
    )


def expected(run) -> float | None:
    return peeked(run.workload, seed=run.seed)[0]


def test_a_look_at_the_first_requests_uses_none_of_them_up():
    run = settings(kind="synthetic", isl_tokens=8)
    _, requests = peeked(run.workload, seed=run.seed)
    plain = run.workload.requests(seed=run.seed)
    assert [next(requests) for _ in range(80)] == [next(plain) for _ in range(80)]
    with pytest.raises(ConfigError):
        next(peeked(settings(kind="sharegpt", path="/nonexistent/data.json").workload, seed=0)[1])


def test_what_prompts_have_in_common_is_taken_from_the_workload_itself():
    assert expected(settings(kind="synthetic", isl_tokens=200)) == 0.0
    shared = expected(settings(kind="conversations", turns=1, prefix_tokens=2000))
    assert shared is not None
    assert shared > 0.8
    missing = settings(kind="sharegpt", path="/nonexistent/data.json")
    assert expected(missing) is None
