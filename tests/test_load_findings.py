"""The audit's thresholds: which client is good enough, and what its findings say."""

from __future__ import annotations

import dataclasses

import pytest

from harness.load.audit import LoadAudit
from harness.load.findings import audit_findings

HEALTHY = LoadAudit(
    wall_s=60.0,
    cpu_s=6.0,
    cpu_share_ratio=0.1,
    loop_cpu_s=5.0,
    loop_share_ratio=0.08,
    scheduling_lag_p50_s=0.0001,
    scheduling_lag_p99_s=0.001,
    scheduling_lag_max_s=0.002,
    loop_lag_p50_s=0.0002,
    loop_lag_p99_s=0.001,
    loop_lag_max_s=0.004,
    requests={"ok": 1000},
    errors={},
    output_lengths={"as_asked": 1000},
    connections_opened=64,
    connections_before_start=64,
    requests_on_reused=936,
    stale_connections=0,
    requested_concurrency=64,
    delivered_concurrency=63.9,
    requested_rate_per_s=None,
    delivered_rate_per_s=16.6,
)
OPEN = {"requested_concurrency": None, "requested_rate_per_s": 10.0, "delivered_rate_per_s": 10.0}


def codes(**changes) -> list[tuple[str, str]]:
    audit = dataclasses.replace(HEALTHY, **changes)
    return [(finding.code, finding.severity) for finding in audit_findings(audit)]


def test_a_healthy_client_is_not_mentioned():
    assert codes() == []
    assert codes(**OPEN) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loop_lag_p99_s": 0.02}, [("client_busy", "warning")]),
        ({"loop_lag_p99_s": 0.06}, [("client_overloaded", "invalid")]),
        ({"loop_share_ratio": 0.85}, [("client_busy", "warning")]),
        ({"loop_share_ratio": 0.99}, [("client_overloaded", "invalid")]),
        ({"scheduling_lag_p99_s": 0.5}, []),
        ({**OPEN, "scheduling_lag_p99_s": 0.5}, [("requests_sent_late", "warning")]),
        ({**OPEN, "delivered_rate_per_s": 9.0}, [("rate_not_delivered", "warning")]),
        ({"delivered_concurrency": 50.0}, [("concurrency_not_delivered", "warning")]),
        ({"delivered_concurrency": 50.0, "requests": {"ok": 64}}, []),
        ({"stale_connections": 3}, [("connections_closed_by_server", "info")]),
        (
            {"output_lengths": {"as_asked": 990, "shorter": 10}},
            [("output_length_differs", "warning")],
        ),
        ({"output_lengths": {"not_said": 5}}, [("usage_missing", "warning")]),
        (
            {"requests": {"ok": 1000, "failed": 5}, "errors": {"cut": 5}},
            [("requests_failed", "info")],
        ),
        (
            {"requests": {"ok": 900, "failed": 100}, "errors": {"cut": 100}},
            [("requests_failed", "warning")],
        ),
        (
            {"requests": {"ok": 10, "failed": 990}, "errors": {"cut": 990}},
            [("requests_failed", "invalid")],
        ),
    ],
)
def test_each_threshold(changes, expected):
    assert codes(**changes) == expected


def test_what_was_not_measurable_is_no_finding():
    nothing = {
        field.name: None
        for field in dataclasses.fields(LoadAudit)
        if field.name.endswith(("_lag_p50_s", "_lag_p99_s", "_lag_max_s", "_ratio"))
    }
    assert codes(**nothing) == []


def test_a_finding_names_the_value_the_limit_and_what_to_do():
    audit = dataclasses.replace(HEALTHY, loop_lag_p99_s=0.06)
    message = audit_findings(audit)[0].message
    assert "60 ms" in message
    assert "50 ms" in message
    assert "--client-processes" in message


def test_the_gravest_comes_first():
    found = codes(loop_lag_p99_s=0.06, stale_connections=1, output_lengths={"not_said": 1})
    assert [severity for _, severity in found] == ["invalid", "warning", "info"]
