"""The points that no other point beats in two respects at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def front(points: Sequence[tuple[float, float] | None], *, higher_y: bool) -> list[bool]:
    """
    Whether each point is on the Pareto front; higher x is always better.

    Of equal points all are on it. A point without numbers is not, and beats none.

    Args:
        points: (x, y), or None where a number is missing.
        higher_y: whether y is better when it is higher, or when it is lower.

    >>> front([(1, 5), (2, 3), (1, 2), None], higher_y=True)
    [True, True, False, False]
    """
    sign = 1.0 if higher_y else -1.0
    known = [(point[0], sign * point[1]) for point in points if point is not None]
    found = []
    for point in points:
        if point is None:
            found.append(False)
            continue
        x, y = point[0], sign * point[1]
        found.append(not any(a >= x and b >= y and (a > x or b > y) for a, b in known))
    return found
