"""Numbers a slow counter's ticks reading by reading, from where three were seen one by one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from harness import ticking

from .numbering import REGULAR_RATIO, allowed

if TYPE_CHECKING:
    import numpy.typing as npt

    from .counter import Knots

UNKNOWN: Final = -1
_SEEN: Final = 3
_LEAST: Final = 4
_SUSPECT: Final = 60
_ASIDE_RATIO: Final = 0.1
_UNSURE_RATIO: Final = 0.15
_ALONE_RATIO: Final = 0.45
"""Brackets shorter than this part of the time between them hold one tick each."""
_EVEN_RATIO: Final = 1.6
_SLACK_RATIO: Final = 0.003
"""Ticks that are off the lattice by more of the period are not to be counted by it."""
APART: Final = 1 << 40
"""Between the numbers of two stretches: how many ticks lie between them is not known."""


def followed(
    before_ns: npt.NDArray[np.int64],
    after_ns: npt.NDArray[np.int64],
    moved: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64] | None:
    """
    Which tick each change shows, those that were not read included in the count.

    Args:
        before_ns: shape (n,): start of each reading.
        after_ns: shape (n,): its end.
        moved: shape (m,): readings that differ from the one before.

    Returns:
        Shape (m,), increasing where it is known, UNKNOWN elsewhere; `// APART` tells
        stretches that do not know of each other. None: nowhere were ticks seen one by one.
    """
    # All that a reading tells is in the first and in the last that show a value.
    told = np.unique(np.concatenate((moved - 1, moved, [len(before_ns) - 1])))
    shows = np.searchsorted(moved, told, side="right") - 1
    first, last = before_ns[told].astype(np.float64), after_ns[told].astype(np.float64)
    seeds = [
        (k, [(float(before_ns[m - 1]), float(after_ns[m])) for m in moved[k : k + _SEEN]])
        for k in _seeds(before_ns, after_ns, moved)
    ]
    if not seeds:
        return None
    return _numbered(first, last, shows, seeds)


def _numbered(
    first_ns: npt.NDArray[np.float64],
    last_ns: npt.NDArray[np.float64],
    shows: npt.NDArray[np.int64],
    seeds: list[tuple[int, list[tuple[float, float]]]],
) -> npt.NDArray[np.int64]:
    """The numbers from one seed after the other."""
    number = np.full(int(shows[-1]) + 1, UNKNOWN, dtype=np.int64)
    done = 0
    for stretch, (seed, brackets) in enumerate(seeds, start=1):
        if seed < done:
            continue
        begin = int(np.searchsorted(shows, seed + _SEEN - 1))
        onward = _walk(first_ns, last_ns, shows, begin, brackets)
        # Backwards, a reading shows the next tick; mirrored, all else is the same.
        back = [(-high, -low) for low, high in reversed(brackets)]
        start = len(shows) - int(np.searchsorted(shows, seed))
        reverse = _walk(-last_ns[::-1], -first_ns[::-1], shows[::-1], start, back)
        # In the middle, for the ticks before it.
        base = stretch * APART + APART // 2
        found = {value: tick for value, tick in onward.items() if value >= 0}
        found |= {v: _SEEN - 2 - t for v, t in reverse.items() if v >= done}
        found |= dict(enumerate(range(_SEEN), start=seed))
        for value, tick in found.items():
            number[value] = base + tick
        done = max(found) + 1
    return number


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
) -> dict[int, int]:
    """Value → tick, from the readings after *begin* until one contradicts."""
    apart_ns = (brackets[-1][1] - brackets[0][0]) / (len(brackets) - 1)
    ticks = ticking.begin(brackets, slack_ns=_SLACK_RATIO * apart_ns)
    found: dict[int, int] = {}
    if ticks is None:
        return found
    for at in range(begin + 1, len(shows)):
        value = int(shows[at])
        if not ticks.follow(
            float(first_ns[at]), float(last_ns[at]), changed=value != int(shows[at - 1])
        ):
            # It may have been wrong for a while before that showed.
            first = int(shows[max(at - _SUSPECT, begin)])
            suspect = range(min(first, value), max(first, value) + 1)
            return {known: tick for known, tick in found.items() if known not in suspect}
        for back, tick in enumerate(ticks.settled, start=1):
            found.setdefault(int(shows[at - back]), tick)
        if ticks.at is not None:
            found[value] = ticks.at
    return found


def accepted(knots: Knots, start_ns: float, end_ns: float, reach_ns: float) -> Knots:
    """
    The knots around a window as far as they are numbered, if one lattice goes through them.

    Args:
        knots: one device's.
        start_ns: of the window.
        end_ns: of it.
        reach_ns: how far around each edge ticks are looked at.

    Returns:
        Those that are numbered from one tick, each bracket as long as the last tick in it can
        be; or, if they are not or no lattice goes through them, all knots without numbers.
    """
    plain = dataclasses.replace(knots, number=None)
    followed = knots.followed
    if followed is None or knots.low_took_ns is None or knots.high_took_ns is None:
        return plain
    near = (knots.high_ns >= start_ns - reach_ns) & (knots.low_ns <= end_ns + reach_ns)
    held = (knots.high_ns >= start_ns) & (knots.low_ns <= end_ns)
    stretch = np.where(followed == UNKNOWN, UNKNOWN, followed // APART)
    of_window = np.unique(stretch[held])
    of_window = of_window[of_window != UNKNOWN]
    if len(of_window) != 1:
        return plain
    kept = np.flatnonzero(near & (stretch == of_window[0]))
    number = followed[kept]
    # Ticks beyond both edges, and nothing but a few unsure ones left out between them.
    first, last = knots.low_ns[kept[0]], knots.high_ns[kept[-1]]
    left_out = kept[-1] - kept[0] + 1 - len(kept)
    if (
        len(kept) < _LEAST
        or left_out > _UNSURE_RATIO * len(kept)
        or (first > start_ns and kept[0] > 0)
        or (last < end_ns and kept[-1] < len(knots.high_ns) - 1)
    ):
        return plain
    # What was left out may be of the tick after: the last reading before it counts.
    begins = np.concatenate((kept[:1], kept[:-1] + 1))
    low_ns, high_ns = knots.low_ns[begins], knots.high_ns[kept]
    period_ns = float(high_ns[-1] - high_ns[0]) / max(int(number[-1] - number[0]), 1)
    # One may have come late, and the next one early.
    low_took_ns = knots.low_took_ns[begins]
    low_took_ns[1:][np.diff(number) > 1] = 0.0
    low_ns[1:] += np.maximum(np.diff(number) - 1 - _ASIDE_RATIO, 0.0) * period_ns
    low_ns = np.maximum.accumulate(low_ns)
    for edge_ns in (start_ns, end_ns):
        at = (high_ns >= edge_ns - reach_ns) & (low_ns <= edge_ns + reach_ns)
        if not _passes(low_ns[at], high_ns[at], number[at]):
            return plain
    return dataclasses.replace(
        knots,
        low_ns=low_ns,
        high_ns=high_ns,
        energy_j=knots.energy_j[kept],
        low_took_ns=low_took_ns,
        high_took_ns=knots.high_took_ns[kept],
        followed=number,
        number=number,
        each=True,
    )


def _passes(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], number: npt.NDArray[np.int64]
) -> bool:
    """Whether a regular lattice goes through all of these, numbered like that."""
    if len(number) < 2 or np.any(low > high):  # noqa: PLR2004
        return False
    count, begin = number - number[0], low[0]
    jitter_ns = REGULAR_RATIO * float(high[-1] - begin) / int(count[-1])
    return len(allowed(low - begin, high - begin, count, jitter_ns)) > 2  # noqa: PLR2004
