"""Follows a counter's ticks: the periods and phases that no reading so far contradicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOW_READ_S: Final = 0.5e-3
"""Reads that take longer are worth aiming, and the ticks that they saw worth following."""
_REBASE_TICKS: Final = 64
_DRIFT_RATIO: Final = 1e-5
"""By how much a period may change, relative to it, within so many ticks."""
_DRIFT_NS: Final = 2e4

Corner = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One that shows any of some ticks, as far as its own time tells."""

    before_ns: float
    after_ns: float
    least: int
    greatest: int
    changed: bool


@dataclass(slots=True)
class Ticking:
    """
    All (phase, period) that put tick *n* at base + phase + period * (n - number).

    A reading that shows tick n says that n was not after the reading's end and n + 1
    not before its start. What is left is a convex polygon; when it is empty, the ticks
    are on no lattice, or on another one by now.

    Args:
        corners: (phase, period) in nanoseconds, in order around the polygon.
        base_ns: the instant that phases count from.
        number: the tick whose phase it is.
        slack_ns: single ticks may be off the lattice by this much.
        at: the tick that the latest reading showed; None: it could have been either of two.
    """

    corners: list[Corner]
    base_ns: float
    number: int
    slack_ns: float
    at: int | None
    settled: list[int] = field(default_factory=list)
    """What the readings before the latest one showed, the newest first, if only it tells."""
    _unsure: list[_Reading] = field(default_factory=list)

    def span_ns(self, tick: int) -> tuple[float, float]:
        """Between which instants a tick can be."""
        k = tick - self.number
        all_ns = [phase + period * k for phase, period in self.corners]
        return self.base_ns + min(all_ns), self.base_ns + max(all_ns)

    @property
    def period_ns(self) -> float:
        """In the middle of what is left."""
        return sum(period for _, period in self.corners) / len(self.corners)

    def shown(self, before_ns: float, after_ns: float) -> tuple[int, int]:
        """The least and the greatest tick that a reading between two instants can show."""
        first_ns = before_ns - self.slack_ns - self.base_ns
        last_ns = after_ns + self.slack_ns - self.base_ns
        least = min((first_ns - phase) / period for phase, period in self.corners)
        greatest = max((last_ns - phase) / period for phase, period in self.corners)
        return self.number + math.floor(least), self.number + math.floor(greatest)

    def follow(self, before_ns: float, after_ns: float, *, changed: bool) -> bool:
        """
        Take one reading into account.

        Args:
            before_ns: its start.
            after_ns: its end.
            changed: it differs from the one before.

        Returns:
            False: no lattice is left; do not ask this object again.
        """
        least, greatest = self.shown(before_ns, after_ns)
        self.settled = []
        if self.at is not None:
            least = max(least, self.at + 1) if changed else least
            greatest = greatest if changed else self.at
        elif self._unsure:
            # The one before showed one of several: that of this one, or an earlier one.
            old = self._unsure[-1]
            least = max(least, old.least + 1 if changed else old.least)
            greatest = greatest if changed else min(greatest, old.greatest)
        if least > greatest:
            return False
        one = _Reading(before_ns, after_ns, least, greatest, changed)
        if least < greatest:
            self.at = None
            self._unsure.append(one)
            return True
        self.at = least
        self._settle(one)
        self._showed(least, before_ns, after_ns)
        if self.corners and least - self.number > _REBASE_TICKS:
            self._rebase(least)
        return bool(self.corners)

    def _settle(self, latest: _Reading) -> None:
        """Say of the readings before what they showed, now that one is sure."""
        later, tick = latest, latest.least
        for old in reversed(self._unsure):
            greatest = min(old.greatest, tick - 1 if later.changed else tick)
            least = old.least if later.changed else max(old.least, tick)
            if least != greatest:
                break
            self.settled.append(least)
            self._showed(least, old.before_ns, old.after_ns)
            later, tick = old, least
        self._unsure.clear()

    def _showed(self, tick: int, before_ns: float, after_ns: float) -> None:
        self._not_after(tick, after_ns + self.slack_ns)
        self._not_before(tick + 1, before_ns - self.slack_ns)

    def _not_after(self, tick: int, t_ns: float) -> None:
        k, limit = tick - self.number, t_ns - self.base_ns
        self.corners = _cut(self.corners, [x + y * k - limit for x, y in self.corners])

    def _not_before(self, tick: int, t_ns: float) -> None:
        k, limit = tick - self.number, t_ns - self.base_ns
        self.corners = _cut(self.corners, [limit - x - y * k for x, y in self.corners])

    def _rebase(self, tick: int) -> None:
        """Count from a newer tick; what is old counts for a little less: clocks drift."""
        k = tick - self.number
        moved = [(x + y * k, y) for x, y in self.corners]
        shift_ns = sum(x for x, _ in moved) / len(moved)
        drift = self.period_ns * _DRIFT_RATIO
        self.corners = _hull(
            [
                (x - shift_ns + right * _DRIFT_NS, y + up * drift)
                for x, y in moved
                for right in (-1, 1)
                for up in (-1, 1)
            ]
        )
        self.base_ns += shift_ns
        self.number = tick


def begin(brackets: Sequence[tuple[float, float]], *, slack_ns: float) -> Ticking | None:
    """
    The lattices that go through the brackets of a few successive ticks.

    Args:
        brackets: start of the last reading before each tick, end of the first after it; of
            at least two ticks. The last of these readings is the latest.
        slack_ns: single ticks may be off the lattice by this much.

    Returns:
        None if there are none.
    """
    last = len(brackets) - 1
    (low_ns, high_ns), (last_low_ns, last_high_ns) = brackets[0], brackets[-1]
    least_ns = max((last_low_ns - high_ns - 2 * slack_ns) / last, 1.0)
    most_ns = (last_high_ns - low_ns + 2 * slack_ns) / last
    width_ns = high_ns - low_ns + slack_ns
    box = [(-slack_ns, least_ns), (-slack_ns, most_ns), (width_ns, most_ns), (width_ns, least_ns)]
    ticking = Ticking(box, low_ns, 0, slack_ns, last)
    for tick, (before_ns, after_ns) in enumerate(brackets):
        ticking._not_before(tick, before_ns - slack_ns)  # noqa: SLF001
        ticking._not_after(tick, after_ns + slack_ns)  # noqa: SLF001
    return ticking if ticking.corners else None


def _cut(corners: list[Corner], over: list[float]) -> list[Corner]:
    """What is left where *over*, which is linear, is not positive."""
    if not corners or max(over) <= 0:
        return corners
    kept: list[Corner] = []
    for k, (x, y) in enumerate(corners):
        before, here = over[k - 1], over[k]
        if (here <= 0) != (before <= 0):
            share = before / (before - here)
            u, v = corners[k - 1]
            kept.append((u + share * (x - u), v + share * (y - v)))
        if here <= 0:
            kept.append((x, y))
    return kept


def _hull(points: list[Corner]) -> list[Corner]:
    """The convex hull, in order around it."""
    points.sort()
    sides: list[list[Corner]] = []
    for ordered in (points, points[::-1]):
        side: list[Corner] = []
        for point in ordered:
            while len(side) > 1 and _turn(side[-2], side[-1], point) <= 0:
                side.pop()
            side.append(point)
        sides.append(side[:-1])
    return sides[0] + sides[1]


def _turn(a: Corner, b: Corner, c: Corner) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
