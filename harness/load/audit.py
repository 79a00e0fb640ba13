"""What the load loop says about itself: how late, how busy, what was asked and what was got."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.arrivals import Arrivals
    from harness.timeline import RequestTrace


_SUMS: Final = (
    "reused",
    "stale",
    "sent",
    "opened",
    "before_start",
    "by_kernel",
    "by_client",
    "cpu_s",
    "loop_cpu_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAudit:
    """
    One phase of load as its client lived through it; JSON by `dataclasses.asdict`.

    None where a thing could not be measured, as a lag without a request.

    Args:
        wall_s: from the first request's due time to the last one's end.
        cpu_s: CPU time of the client's processes meanwhile, all threads.
        cpu_share_ratio: cpu_s / (wall_s · processes); 1 is one core fully used.
        loop_cpu_s: CPU time of the load loop's own threads.
        loop_share_ratio: loop_cpu_s / (wall_s · processes).
        scheduling_lag_p50_s: sent - due, median over requests.
        scheduling_lag_p99_s: the same, 99th percentile.
        scheduling_lag_max_s: the same, largest.
        loop_lag_p50_s: how late the loop served a timer, median; timers tick in 1 ms.
        loop_lag_p99_s: the same, 99th percentile.
        loop_lag_max_s: the same, largest.
        requests: outcome (`ok`, `failed`, `interrupted`) → count.
        errors: error kind → count.
        output_lengths: `as_asked`, `shorter`, `longer`, `not_said` → count of ok requests.
        connections_opened: all that were opened.
        connections_before_start: of them, before the first request was due.
        requests_on_reused: requests sent over a connection that had carried one before.
        stale_connections: times a server closed a kept connection just as it was used
            again; the request was sent anew, and its t_sent_ns is that of the second time.
        requested_concurrency: slots, or the cap; None: no limit was asked for.
        delivered_concurrency: mean requests in flight while requests were being issued.
        requested_rate_per_s: mean rate of the due times; None in a closed loop.
        delivered_rate_per_s: mean rate of the send times over the same requests.
        processes: client processes.
        reads_stamped_by_kernel: reads whose time the kernel took as the bytes came in,
            however late the client was to read them; None: not recorded then.
        reads_stamped_by_client: reads whose time the client took as it read them, as
            under TLS.
    """

    wall_s: float
    cpu_s: float
    cpu_share_ratio: float | None
    loop_cpu_s: float
    loop_share_ratio: float | None
    scheduling_lag_p50_s: float | None
    scheduling_lag_p99_s: float | None
    scheduling_lag_max_s: float | None
    loop_lag_p50_s: float | None
    loop_lag_p99_s: float | None
    loop_lag_max_s: float | None
    requests: dict[str, int]
    errors: dict[str, int]
    output_lengths: dict[str, int]
    connections_opened: int
    connections_before_start: int
    requests_on_reused: int
    stale_connections: int
    requested_concurrency: int | None
    delivered_concurrency: float | None
    requested_rate_per_s: float | None
    delivered_rate_per_s: float | None
    processes: int = 1
    reads_stamped_by_kernel: int | None = None
    reads_stamped_by_client: int | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the audit is computed from, collected while the load runs."""

    t_start_ns: int
    cpu_start_s: float = field(default_factory=time.process_time)
    loop_cpu_start_s: float = field(default_factory=time.thread_time)
    scheduling_lags_s: array[float] = field(default_factory=lambda: array("d"))
    loop_lags_s: array[float] = field(default_factory=lambda: array("d"))
    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    output_lengths: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    stale: int = 0
    opened: int = 0
    before_start: int = 0
    by_kernel: int = 0
    by_client: int = 0
    cpu_s: float = 0.0
    loop_cpu_s: float = 0.0
    concurrency: float | None = None
    processes: int = 1
    t_first_due_ns: int | None = None
    t_last_due_ns: int | None = None
    t_first_sent_ns: int | None = None
    t_last_sent_ns: int | None = None
    t_last_end_ns: int | None = None
    sent: int = 0
    in_flight: int = 0
    in_flight_ns: int = 0
    """Requests in flight, integrated over time up to t_changed_ns."""
    t_changed_ns: int | None = None
    t_issued_ns: int | None = None
    """When the last request was issued; the drain after it is not delivered load."""
    issued_in_flight_ns: int = 0
    """in_flight_ns at that moment."""

    def issue(self) -> None:
        """A request is being handed to its connection."""
        self._advance(+1)
        self.t_issued_ns = self.t_changed_ns
        self.issued_in_flight_ns = self.in_flight_ns

    def _advance(self, change: int) -> None:
        now_ns = time.perf_counter_ns()
        self.in_flight_ns += self.in_flight * (now_ns - (self.t_changed_ns or now_ns))
        self.in_flight += change
        self.t_changed_ns = now_ns

    def add(self, trace: RequestTrace) -> None:
        """Count one finished request."""
        self._advance(-1)
        self.t_last_end_ns = max(self.t_last_end_ns or trace.t_end_ns, trace.t_end_ns)
        if trace.error_kind is None:
            self.requests["ok"] += 1
            self.output_lengths[_length(trace)] += 1
        else:
            self.requests["interrupted" if trace.error_kind == "interrupted" else "failed"] += 1
            self.errors[trace.error_kind] += 1
        due, sent = trace.t_due_ns, trace.t_sent_ns
        if sent is None:
            return
        self.sent += 1
        self.reused += trace.reused_connection
        self.scheduling_lags_s.append((sent - due) / 1e9)
        self.t_first_due_ns = min(self.t_first_due_ns or due, due)
        self.t_last_due_ns = max(self.t_last_due_ns or due, due)
        self.t_first_sent_ns = min(self.t_first_sent_ns or sent, sent)
        self.t_last_sent_ns = max(self.t_last_sent_ns or sent, sent)

    def close(self, *, opened: int, before_start: int, stamps: tuple[int, int]) -> None:
        """The load is over: read the clocks; *stamps* are reads the kernel and we stamped."""
        self.by_kernel, self.by_client = stamps
        self.cpu_s = time.process_time() - self.cpu_start_s
        self.loop_cpu_s = time.thread_time() - self.loop_cpu_start_s
        self.opened = opened
        self.before_start = before_start
        issuing_ns = (self.t_issued_ns or 0) - self.t_start_ns
        if issuing_ns > 0:
            self.concurrency = self.issued_in_flight_ns / issuing_ns

    def join(self, other: Tally) -> None:
        """Take in what another client process counted, on the same clock; both are closed."""
        self.processes += other.processes
        self.t_start_ns = min(self.t_start_ns, other.t_start_ns)
        self.scheduling_lags_s.extend(other.scheduling_lags_s)
        self.loop_lags_s.extend(other.loop_lags_s)
        self.requests += other.requests
        self.errors += other.errors
        self.output_lengths += other.output_lengths
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.concurrency = _both(sum, self.concurrency, other.concurrency)
        self.t_first_due_ns = _both(min, self.t_first_due_ns, other.t_first_due_ns)
        self.t_first_sent_ns = _both(min, self.t_first_sent_ns, other.t_first_sent_ns)
        self.t_last_due_ns = _both(max, self.t_last_due_ns, other.t_last_due_ns)
        self.t_last_sent_ns = _both(max, self.t_last_sent_ns, other.t_last_sent_ns)
        self.t_last_end_ns = _both(max, self.t_last_end_ns, other.t_last_end_ns)

    def audit(self, arrivals: Arrivals) -> LoadAudit:
        """The audit of what was counted; after `close`."""
        wall_s = ((self.t_last_end_ns or self.t_start_ns) - self.t_start_ns) / 1e9
        capacity_s = wall_s * self.processes
        lag = _quantiles_s(self.scheduling_lags_s)
        loop_lag = _quantiles_s(self.loop_lags_s)
        due_rate = _rate_per_s(self.sent, self.t_first_due_ns, self.t_last_due_ns)
        return LoadAudit(
            wall_s=wall_s,
            cpu_s=self.cpu_s,
            cpu_share_ratio=self.cpu_s / capacity_s if capacity_s > 0 else None,
            loop_cpu_s=self.loop_cpu_s,
            loop_share_ratio=self.loop_cpu_s / capacity_s if capacity_s > 0 else None,
            scheduling_lag_p50_s=lag[0],
            scheduling_lag_p99_s=lag[1],
            scheduling_lag_max_s=lag[2],
            loop_lag_p50_s=loop_lag[0],
            loop_lag_p99_s=loop_lag[1],
            loop_lag_max_s=loop_lag[2],
            requests=dict(self.requests),
            errors=dict(self.errors),
            output_lengths=dict(self.output_lengths),
            connections_opened=self.opened,
            connections_before_start=self.before_start,
            requests_on_reused=self.reused,
            stale_connections=self.stale,
            requested_concurrency=arrivals.concurrency,
            delivered_concurrency=self.concurrency,
            requested_rate_per_s=None if arrivals.closed else due_rate,
            delivered_rate_per_s=_rate_per_s(self.sent, self.t_first_sent_ns, self.t_last_sent_ns),
            processes=self.processes,
            reads_stamped_by_kernel=self.by_kernel,
            reads_stamped_by_client=self.by_client,
        )


def _both(how: Callable[[list[Any]], Any], one: Any, other: Any) -> Any:  # noqa: ANN401 - int or float
    present = [value for value in (one, other) if value is not None]
    return how(present) if present else None


def _length(trace: RequestTrace) -> str:
    if trace.osl_tokens is None:
        return "not_said"
    if trace.osl_tokens == trace.max_osl_tokens:
        return "as_asked"
    return "shorter" if trace.osl_tokens < trace.max_osl_tokens else "longer"


def _rate_per_s(count: int, first_ns: int | None, last_ns: int | None) -> float | None:
    if count < 2 or first_ns is None or last_ns is None or last_ns <= first_ns:  # noqa: PLR2004 - a gap needs two
        return None
    return (count - 1) / ((last_ns - first_ns) / 1e9)


def _quantiles_s(values: array[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    p50, p99 = np.quantile(np.frombuffer(values), [0.5, 0.99])
    return float(p50), float(p99), max(values)
