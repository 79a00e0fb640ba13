"""What one phase of load is to send, where, when and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.arrivals import Arrivals
    from harness.contracts import Endpoint
    from harness.timeline import Phase, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """
    One phase of load.

    Args:
        endpoint: where to.
        requests: endless or finite; consumed in order, and ahead of need: at the end
            more may have been taken than were sent, unless request_count bounds it.
        phase: goes into every request's trace.
        arrivals: when requests are due.
        request_count: stop issuing after so many; None: duration_s decides.
        duration_s: stop issuing after so long; requests in flight are finished.
        request_timeout_s: from sending to the end of the answer.
        fixed_length: extra JSON fields that pin the output's length.
        seed: of the arrival schedule.
        max_failures_in_a_row: give up after so many; None: never.
        shard: this client's number among those that share the plan, and how many
            they are; it takes every so-many-th request, slot and due time.
    """

    endpoint: Endpoint
    requests: Iterator[Request]
    phase: Phase
    arrivals: Arrivals
    request_count: int | None
    duration_s: float | None
    request_timeout_s: float
    fixed_length: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    max_failures_in_a_row: int | None = 20
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.request_count is None and self.duration_s is None:
            raise ConfigError(
                "the load has neither a request count nor a duration, so it would never end",
                remedy="give `--request-count N` or a duration",
            )

    def share(self, count: int) -> int:
        """How many of *count* things, dealt out in turn, fall to this shard."""
        return len(range(self.shard[0], count, self.shard[1]))
