"""What a display of something that is going on shows: watts, rates, joules a token so far."""

from __future__ import annotations

from collections import deque
from typing import Final

from .stats.ratio import ratio_half_width

BATCH_S: Final = 2.0
"""Longer than a token or a prompt, so that batches differ by more than what is in flight."""
KEPT: Final = 120
"""Points of the past that are kept for a sparkline."""
STALE_S: Final = 3.0
"""Joules over a longer silence are not guessed."""


class Track:
    """
    Follows one meter and the tokens that are made by what it meters.

    Args:
        batch_s: the stretches whose differences the uncertainty is made of.
    """

    def __init__(self, *, batch_s: float = BATCH_S) -> None:
        self._batch_s = batch_s
        self.watts: deque[float] = deque(maxlen=KEPT)
        self._first: tuple[float, float, float] | None = None
        self._last: tuple[float, float, float] | None = None
        self._edge: tuple[float, float, float] | None = None
        self._batches: list[tuple[float, float]] = []
        self._power: tuple[float, float] | None = None
        self._joules = 0.0

    def add(self, t_s: float, joules: float, tokens: float) -> None:
        """
        Take in one reading of cumulative counters.

        Args:
            t_s: when, on any clock that does not step.
            joules: cumulative; going back starts everything anew.
            tokens: cumulative, likewise.
        """
        now = (t_s, joules, tokens)
        last = self._last
        if last is not None and t_s <= last[0]:
            return
        if last is None or joules < last[1] or tokens < last[2]:
            self._first = self._edge = self._last = now
            self._batches = []
            return
        self.watts.append((joules - last[1]) / (t_s - last[0]))
        self._last = now
        edge = self._edge or now
        if t_s - edge[0] >= self._batch_s:
            self._batches.append((joules - edge[1], tokens - edge[2]))
            self._edge = now

    def add_watts(self, t_s: float, watts: float | None, tokens: float) -> None:
        """
        Take in one reading of a power, which is integrated by trapezoids.

        Args:
            t_s: when.
            watts: None: there is no reading; what follows starts anew.
            tokens: cumulative.
        """
        before, self._power = self._power, None if watts is None else (t_s, watts)
        if watts is None or before is None or t_s - before[0] > STALE_S:
            self._last = None
            if watts is not None:
                self.add(t_s, self._joules, tokens)
            return
        self._joules += (before[1] + watts) / 2 * (t_s - before[0])
        self.add(t_s, self._joules, tokens)

    @property
    def joules(self) -> float | None:
        """Since the first reading; None with fewer than two."""
        return self._moved(1)

    @property
    def tokens(self) -> float | None:
        """Since the first reading; None with fewer than two."""
        return self._moved(2)

    @property
    def j_per_token(self) -> float | None:
        """So far, since the first reading; None while no token came."""
        joules, tokens = self.joules, self.tokens
        return joules / tokens if joules is not None and tokens else None

    @property
    def half_width_ratio(self) -> float | None:
        """Half the 95 % interval of it, as a share of it; None while it cannot be told."""
        value = self.j_per_token
        if not value:
            return None
        half = ratio_half_width([j for j, _ in self._batches], [t for _, t in self._batches])
        return None if half is None else half / value

    def _moved(self, place: int) -> float | None:
        if self._first is None or self._last is None or self._last is self._first:
            return None
        return self._last[place] - self._first[place]


class Rate:
    """How fast a cumulative count moves, over the last few seconds."""

    def __init__(self, *, over_s: float = 5.0) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, float]] = deque()
        self.past: deque[float] = deque(maxlen=KEPT)

    def add(self, t_s: float, count: float) -> None:
        """Take in one reading; one that went back starts anew."""
        if self._seen and (t_s <= self._seen[-1][0] or count < self._seen[-1][1]):
            if count >= self._seen[-1][1]:
                return
            self._seen.clear()
        self._seen.append((t_s, count))
        while len(self._seen) > 2 and t_s - self._seen[1][0] >= self._over_s:  # noqa: PLR2004 - two points make a rate
            self._seen.popleft()
        rate = self.per_s
        if rate is not None:
            self.past.append(rate)

    @property
    def per_s(self) -> float | None:
        """None with fewer than two readings."""
        if len(self._seen) < 2:  # noqa: PLR2004 - two points make a rate
            return None
        (t0, first), (t1, last) = self._seen[0], self._seen[-1]
        return (last - first) / (t1 - t0)
