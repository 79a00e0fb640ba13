"""Follows an engine's own cumulative counters over its restarts and says what they moved by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class CounterFollower:
    """
    What one engine's counters moved by, scrape after scrape.

    Args:
        last: its counters when last read; one that is missing starts anew.
        resets: how often they went back: the engine was started again.
    """

    last: dict[str, float] = field(default_factory=dict)
    resets: int = 0

    def advance(self, counts: Mapping[str, float]) -> dict[str, float]:
        """
        Take one scrape into account.

        A counter that went back was started again at 0, as Prometheus reads it.
        One that appears for the first time only sets its zero.

        Args:
            counts: cumulative; one that the engine does not have is missing.

        Returns:
            What each counter moved by, never negative.
        """
        reset = any(value < self.last.get(kind, 0.0) for kind, value in counts.items())
        self.resets += reset
        moved = {
            kind: value if reset else value - self.last[kind]
            for kind, value in counts.items()
            if kind in self.last
        }
        self.last = {**self.last, **counts}
        return moved
