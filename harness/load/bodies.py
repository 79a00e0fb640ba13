"""Builds request bodies ahead of need, so that sending never waits for building."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from harness.stream.openai_api import build_body

if TYPE_CHECKING:
    from harness.timeline import Request

    from .plan import LoadPlan

_AHEAD_BYTES: Final = 64 * 1024 * 1024
_AHEAD_REQUESTS: Final = 10_000
_REFILL_NS: Final = 2_000_000


class Bodies:
    """
    The queue of requests with their bodies.

    Args:
        plan: its requests are taken in order, this shard's share of them.
        ahead: how many to hold of a workload without a known end.
    """

    def __init__(self, plan: LoadPlan, *, ahead: int) -> None:
        self._plan = plan
        self._requests = islice(plan.requests, plan.shard[0], None, plan.shard[1])
        self._left = None if plan.request_count is None else plan.share(plan.request_count)
        self._ahead = ahead
        self._ready: deque[tuple[Request, bytes]] = deque()
        self._bytes = 0

    def known_count(self) -> int | None:
        """How many there will ever be, if that many are ready; None: there are more to build."""
        return len(self._ready) if self._left == 0 else None

    def fill(self) -> None:
        """Build as many as are wanted ahead."""
        while self._wanting():
            self._build()

    def refill(self) -> None:
        """The same, but for 2 ms at most: other work of the loop waits."""
        until_ns = time.perf_counter_ns() + _REFILL_NS
        while self._wanting() and time.perf_counter_ns() < until_ns:
            self._build()

    def take(self) -> tuple[Request, bytes] | None:
        """The next request and its body; None: that was all."""
        if not self._ready and self._left != 0:
            self._build()
        if not self._ready:
            return None
        request, body = self._ready.popleft()
        self._bytes -= len(body)
        return request, body

    def _wanting(self) -> bool:
        ready = len(self._ready)
        enough = self._ahead if self._left is None else _AHEAD_REQUESTS
        return self._left != 0 and ready < enough and self._bytes < _AHEAD_BYTES

    def _build(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._left = 0
            return
        if self._left is not None:
            self._left -= 1
        body = build_body(request, self._plan.endpoint, self._plan.fixed_length)
        self._ready.append((request, body))
        self._bytes += len(body)
