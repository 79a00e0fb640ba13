"""How long the latest reads of one counter took: the usual, the mean, the long."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_KEPT: Final = 64
_FEW: Final = 16
"""From then on it is worked out anew only once in as many reads."""


@dataclass(slots=True)
class Durations:
    """How long the latest reads of a counter took, nanoseconds."""

    usual_ns: float = 0.0
    mean_ns: float = 0.0
    long_ns: float = 0.0
    """One in ten takes longer."""
    count: int = 0
    _latest_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, took_ns: int) -> None:
        """Take one more into account, at once at first and later now and then."""
        self._latest_ns.append(took_ns)
        self.count += 1
        if self.count > _FEW and self.count % _FEW:
            return
        ordered = sorted(self._latest_ns)
        self.usual_ns = ordered[len(ordered) // 2]
        self.mean_ns = sum(ordered) / len(ordered)
        self.long_ns = ordered[9 * len(ordered) // 10]
