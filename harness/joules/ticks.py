"""Says when each tick of a counter most likely was, over a whole recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from . import lattice
from .edges import JOINT_LIMIT_NS

if TYPE_CHECKING:
    import numpy.typing as npt

    from .counter import Knots

_DRAWS: Final = 50


def regular_ns(
    low_ns: npt.NDArray[np.float64],
    high_ns: npt.NDArray[np.float64],
    numbers: lattice.Numbers | None,
) -> tuple[npt.NDArray[np.float64], float] | None:
    """
    The mean instant of each tick over the lattices that the brackets allow.

    Args:
        low_ns: shape (n,): start of each tick's bracket.
        high_ns: shape (n,): its end.
        numbers: which tick of a slow counter each is; None: not known.

    Returns:
        Shape (n,), never decreasing, and by how much they may be off, as two standard
        deviations of a usual one, in nanoseconds; None: the ticks are on no lattice.
    """
    random = np.random.default_rng(1)
    fitted = lattice.fit(low_ns, high_ns, random, _DRAWS, numbers=numbers)
    if fitted is None:
        return None
    drawn = fitted.draw_ns(random, np.arange(len(low_ns)), low_ns, high_ns)
    middle_ns: npt.NDArray[np.float64] = drawn.mean(axis=0)
    return np.maximum.accumulate(middle_ns), 2 * float(np.median(drawn.std(axis=0)))


def placed_ns(knots: Knots) -> tuple[npt.NDArray[np.float64], float] | None:
    """
    The instant of each knot of a recording of any length, by lattices of 40 s at most.

    No crystal is steady for ever, so each part has a lattice of its own.

    Returns:
        As of `regular_ns`; None: not each tick was seen, or in some part they are on no lattice.
    """
    if not knots.each:
        return None
    since_ns = knots.high_ns - knots.high_ns[0]
    parts = int(since_ns[-1] // JOINT_LIMIT_NS) + 1
    own = np.minimum(since_ns * parts / max(float(since_ns[-1]), 1.0), parts - 1).astype(np.int64)
    placed, doubt_ns = [], 0.0
    for part in range(parts):
        inside = own == part
        numbers = lattice.numbers(knots, np.flatnonzero(inside))
        found = regular_ns(knots.low_ns[inside], knots.high_ns[inside], numbers)
        if found is None:
            return None
        placed.append(found[0])
        doubt_ns = max(doubt_ns, found[1])
    return np.maximum.accumulate(np.concatenate(placed)), doubt_ns
