"""Says from the load's audit whether its client was good enough for its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.plural import counted
from harness.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .audit import LoadAudit

LOOP_LAG_WARNING_S: Final = 0.010
"""p99 of the loop's lateness: beyond it time stamps of tokens can be late by as much."""
LOOP_LAG_INVALID_S: Final = 0.050
LOOP_SHARE_WARNING_RATIO: Final = 0.80
"""Share of a core used by the load loop: above it bursts queue up in the client."""
LOOP_SHARE_INVALID_RATIO: Final = 0.95
SCHEDULING_LAG_WARNING_S: Final = 0.010
"""p99 of sent - due in an open loop without a cap."""
RATE_SHORTFALL_WARNING_RATIO: Final = 0.02
CONCURRENCY_SHORTFALL_WARNING_RATIO: Final = 0.05
_TURNS: Final = 3
"""With fewer requests a slot the mean says more about the load's length than about the client."""
FAILED_WARNING_RATIO: Final = 0.01
FAILED_INVALID_RATIO: Final = 0.50


def audit_findings(audit: LoadAudit) -> list[Finding]:
    """
    What a reader of the load's numbers has to know about its client.

    `client_overloaded` invalidates latencies, not counts or energy: the tokens
    were made and the joules drawn whether or not we stamped them in time.

    Args:
        audit: of the measured phase.

    Returns:
        Findings, the gravest first; empty if all is well.
    """
    findings = [
        *_overload(audit),
        *_requests(audit),
        *_lengths(audit),
        *_delivery(audit),
    ]
    order = {"invalid": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: order[finding.severity])


def _overload(audit: LoadAudit) -> Iterator[Finding]:
    lag_s, share = audit.loop_lag_p99_s, audit.loop_share_ratio
    more = "use more client processes (`--client-processes`) or a host of its own for the client"
    if (lag_s is not None and lag_s > LOOP_LAG_INVALID_S) or (
        share is not None and share > LOOP_SHARE_INVALID_RATIO
    ):
        yield Finding(
            code="client_overloaded",
            severity="invalid",
            message=f"the client could not keep up, so latencies are not to be used: its loop "
            f"was late by {_ms(lag_s)} (p99, limit {_ms(LOOP_LAG_INVALID_S)}) and used "
            f"{_percent(share)} of a core (limit {_percent(LOOP_SHARE_INVALID_RATIO)}); {more}",
        )
    elif (lag_s is not None and lag_s > LOOP_LAG_WARNING_S) or (
        share is not None and share > LOOP_SHARE_WARNING_RATIO
    ):
        yield Finding(
            code="client_busy",
            severity="warning",
            message=f"latencies may be too long by the client's own lateness: {_ms(lag_s)} "
            f"(p99, limit {_ms(LOOP_LAG_WARNING_S)}), with {_percent(share)} of a core used "
            f"(limit {_percent(LOOP_SHARE_WARNING_RATIO)}); {more}",
        )
    lag_s = audit.scheduling_lag_p99_s
    if (
        audit.requested_rate_per_s is not None
        and audit.requested_concurrency is None
        and lag_s is not None
        and lag_s > SCHEDULING_LAG_WARNING_S
    ):
        yield Finding(
            code="requests_sent_late",
            severity="warning",
            message=f"requests were sent {_ms(lag_s)} after they were due (p99, limit "
            f"{_ms(SCHEDULING_LAG_WARNING_S)}); read latencies from the due time, or {more}",
        )


def _requests(audit: LoadAudit) -> Iterator[Finding]:
    failed = audit.requests.get("failed", 0)
    total = failed + audit.requests.get("ok", 0)
    if failed:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(audit.errors.items()))
        ratio = failed / total
        yield Finding(
            code="requests_failed",
            severity="invalid"
            if ratio > FAILED_INVALID_RATIO
            else "warning"
            if ratio > FAILED_WARNING_RATIO
            else "info",
            message=f"{failed} of {total} requests failed ({kinds}); latencies are of those that "
            "succeeded; see `error` in requests.parquet and the server's log",
        )
    if audit.stale_connections:
        yield Finding(
            code="connections_closed_by_server",
            severity="info",
            message=f"the server closed {counted(audit.stale_connections, 'kept connection')} "
            "just as the next request went out; such a request was sent anew and timed from then",
        )


def _lengths(audit: LoadAudit) -> Iterator[Finding]:
    lengths = audit.output_lengths
    total = sum(lengths.values())
    other = lengths.get("shorter", 0) + lengths.get("longer", 0)
    if other:
        yield Finding(
            code="output_length_differs",
            severity="warning",
            message=f"{other} of {total} answers were not as long as asked "
            f"({lengths.get('shorter', 0)} shorter, {lengths.get('longer', 0)} longer); "
            "pin the length with the engine's `ignore_eos`, or read per-token numbers only",
        )
    if lengths.get("not_said"):
        yield Finding(
            code="usage_missing",
            severity="warning",
            message=f"{lengths['not_said']} of {total} answers came without usage, so their "
            "tokens are not known; switch on `stream_options.include_usage` in the server",
        )


def _delivery(audit: LoadAudit) -> Iterator[Finding]:
    asked, got = audit.requested_rate_per_s, audit.delivered_rate_per_s
    if asked and got is not None and got < asked * (1 - RATE_SHORTFALL_WARNING_RATIO):
        yield Finding(
            code="rate_not_delivered",
            severity="warning",
            message=f"{got:.4g} requests/s were sent where {asked:.4g} were due; raise the cap on "
            "concurrency, or ask for a rate the server can take",
        )
    slots, flying = audit.requested_concurrency, audit.delivered_concurrency
    if (
        asked is None
        and slots is not None
        and flying is not None
        and sum(audit.requests.values()) >= _TURNS * slots
        and flying < slots * (1 - CONCURRENCY_SHORTFALL_WARNING_RATIO)
    ):
        yield Finding(
            code="concurrency_not_delivered",
            severity="warning",
            message=f"{flying:.4g} requests were in flight on average where {slots} were asked "
            "for; run longer, or send more requests than slots",
        )


def _ms(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else f"{seconds * 1e3:.3g} ms"


def _percent(ratio: float | None) -> str:
    return "an unknown share" if ratio is None else f"{ratio:.0%}"
