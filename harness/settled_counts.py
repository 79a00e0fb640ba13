"""Reads an engine's own token counters once they have stopped moving."""

from __future__ import annotations

import time
from typing import Final

from .contracts import TokenCounters, TokenCounts
from .launch import scrape

_SETTLE_S: Final = 5.0
_POLL_S: Final = 0.1


def settled_counts(counters: TokenCounters, url: str) -> TokenCounts:
    """
    The counters, read until two readings agree.

    Engines that count at a request's end do so a moment after the client has
    the last byte.

    Args:
        counters: the engine's dialect.
        url: of its exposition.

    Raises:
        EngineError: it does not answer, or the counters are not in its answer.
    """
    deadline = time.monotonic() + _SETTLE_S
    counts = counters.read(scrape(url))
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        again = counters.read(scrape(url))
        if again == counts:
            break
        counts = again
    return counts
