"""Numbers a slow counter's ticks reading by reading, from where three were seen one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from harness import ticking

if TYPE_CHECKING:
    import numpy.typing as npt

UNKNOWN: Final = -1
_SEEN: Final = 3
_ALONE_RATIO: Final = 0.45
"""Brackets shorter than this part of the time between them hold one tick each."""
_EVEN_RATIO: Final = 1.6
_SLACK_RATIOS: Final = (0.003, 0.05)
"""Ticks that are off by this part of the period are numbered all the same; the less, the surer."""
_NEARLY_ALL: Final = 0.95
_APART: Final = 1 << 40
"""Between the numbers of two stretches: how many ticks lie between them is not known."""


def followed(
    before_ns: npt.NDArray[np.int64],
    after_ns: npt.NDArray[np.int64],
    moved: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], float] | None:
    """
    Which tick each change shows, those that were not read included in the count.

    Args:
        before_ns: shape (n,): start of each reading.
        after_ns: shape (n,): its end.
        moved: shape (m,): readings that differ from the one before.

    Returns:
        Shape (m,), increasing where it is known, UNKNOWN elsewhere; numbers more than a
        day's apart are of stretches that do not know of each other. And the period,
        nanoseconds. None: nowhere were ticks seen one by one.
    """
    # All that a reading tells is in the first and in the last that show a value.
    told = np.unique(np.concatenate((moved - 1, moved, [len(before_ns) - 1])))
    shows = np.searchsorted(moved, told, side="right") - 1
    first, last = before_ns[told].astype(np.float64), after_ns[told].astype(np.float64)
    seeds = [
        (k, [(float(before_ns[m - 1]), float(after_ns[m])) for m in moved[k : k + _SEEN]])
        for k in _seeds(before_ns, after_ns, moved)
    ]
    best: tuple[int, npt.NDArray[np.int64], float] | None = None
    for slack in _SLACK_RATIOS if seeds else ():
        number, period_ns, longest = _numbered(first, last, shows, seeds, slack)
        if best is None or longest > best[0]:
            best = longest, number, period_ns
        if longest >= _NEARLY_ALL * len(moved):
            break
    return None if best is None or not best[0] else best[1:]


def _numbered(
    first_ns: npt.NDArray[np.float64],
    last_ns: npt.NDArray[np.float64],
    shows: npt.NDArray[np.int64],
    seeds: list[tuple[int, list[tuple[float, float]]]],
    slack: float,
) -> tuple[npt.NDArray[np.int64], float, int]:
    """The numbers from one seed after the other; the period; how many knots the longest part has."""
    number = np.full(int(shows[-1]) + 1, UNKNOWN, dtype=np.int64)
    period_ns, longest, done = 0.0, 0, 0
    for stretch, (seed, brackets) in enumerate(seeds, start=1):
        if seed < done:
            continue
        begin = int(np.searchsorted(shows, seed + _SEEN - 1))
        onward, own_ns = _walk(first_ns, last_ns, shows, begin, brackets, slack)
        # Backwards, a reading shows the next tick; mirrored, all else is the same.
        back = [(-high, -low) for low, high in reversed(brackets)]
        start = len(shows) - int(np.searchsorted(shows, seed))
        reverse, _ = _walk(-last_ns[::-1], -first_ns[::-1], shows[::-1], start, back, slack)
        base = stretch * _APART
        found = {value: tick for value, tick in onward.items() if value >= 0}
        found |= {v: _SEEN - 2 - t for v, t in reverse.items() if v >= done}
        found |= dict(enumerate(range(_SEEN), start=seed))
        for value, tick in found.items():
            number[value] = base + tick
        if len(found) > longest:
            period_ns, longest = own_ns, len(found)
        done = max(found) + 1
    return number, period_ns, longest


def _seeds(
    before_ns: npt.NDArray[np.int64],
    after_ns: npt.NDArray[np.int64],
    moved: npt.NDArray[np.int64],
) -> list[int]:
    """Where three successive changes were each a tick."""
    low, high = before_ns[moved - 1], after_ns[moved]
    steps = np.diff((low + high) / 2)
    if len(steps) < _SEEN - 1:
        return []
    # A reading between two changes that shows neither.
    still = np.diff(moved) > 1
    one, other = steps[:-1], steps[1:]
    widest = np.max([(high - low)[k : len(moved) - 2 + k] for k in range(_SEEN)], axis=0)
    alone = widest < _ALONE_RATIO * np.minimum(one, other)
    even = np.maximum(one, other) < _EVEN_RATIO * np.minimum(one, other)
    return [int(k) for k in np.flatnonzero(alone & even & still[:-1] & still[1:])]


def _walk(
    first_ns: npt.NDArray[np.float64],
    last_ns: npt.NDArray[np.float64],
    shows: npt.NDArray[np.int64],
    begin: int,
    brackets: list[tuple[float, float]],
    slack: float,
) -> tuple[dict[int, int], float]:
    """Value → tick, from the readings after *begin* until one contradicts; and the period."""
    apart_ns = (brackets[-1][1] - brackets[0][0]) / (len(brackets) - 1)
    ticks = ticking.begin(brackets, slack_ns=slack * apart_ns)
    found: dict[int, int] = {}
    if ticks is None:
        return found, apart_ns
    period_ns = ticks.period_ns
    for at in range(begin + 1, len(shows)):
        value = int(shows[at])
        if not ticks.follow(
            float(first_ns[at]), float(last_ns[at]), changed=value != int(shows[at - 1])
        ):
            break
        period_ns = ticks.period_ns
        for back, tick in enumerate(ticks.settled, start=1):
            found.setdefault(int(shows[at - back]), tick)
        if ticks.at is not None:
            found[value] = ticks.at
    return found, period_ns


def sure(number: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which knots to keep: not those, between numbered ones, that may be of either of two ticks."""
    known = np.flatnonzero(number != UNKNOWN)
    kept = np.ones(len(number), dtype=np.bool_)
    if len(known):
        at = np.arange(len(number))
        before = number[known[np.clip(np.searchsorted(known, at, "right") - 1, 0, None)]]
        after = number[known[np.clip(np.searchsorted(known, at), None, len(known) - 1)]]
        inside = (at > known[0]) & (at < known[-1]) & (after - before < _APART // 2)
        kept = (number != UNKNOWN) | ~inside
    return kept


def told(
    number: npt.NDArray[np.int64] | None, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """The numbers of some of the knots, if all that are known are counted from one tick."""
    if number is None:
        return None
    some = number[chosen]
    known = some[some != UNKNOWN]
    return some if len(known) and known[-1] - known[0] < _APART // 2 else None
