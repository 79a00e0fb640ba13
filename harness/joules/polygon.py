"""Convex polygons: what is left of a box when lines cut it, and points drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_LEAST_AREA: Final = 1e-9
"""A sliver of a polygon is no polygon with nothing in it."""


def cut(
    corners: npt.NDArray[np.float64],
    lines: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """
    Cut a convex polygon by half planes, those that cut most first: few then cut at all.

    Args:
        corners: shape (k, 2), in order around it.
        lines: shape (n, 2): (a, b) of each a * x + b * y <= limit.
        limits: shape (n,).

    Returns:
        The corners of what is left, shape (m, 2); none: shape (0, 2).
    """
    while len(corners):
        over = lines @ corners.T - limits[:, None]
        worst = int(np.argmax(over.max(axis=1)))
        outside = over[worst]
        # Cutting leaves corners on the line, as exactly as floats have it.
        if outside.max() <= 1e-9 * max(1.0, float(np.abs(corners).max())):
            break
        corners = _clip(corners, outside)
    return corners


def _clip(
    corners: npt.NDArray[np.float64], over: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    kept: list[npt.NDArray[np.float64]] = []
    for k, point in enumerate(corners):
        previous = corners[k - 1]
        if (over[k] <= 0) != (over[k - 1] <= 0):
            kept.append(previous + over[k - 1] / (over[k - 1] - over[k]) * (point - previous))
        if over[k] <= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def draw(
    corners: npt.NDArray[np.float64], random: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.float64], float]:
    """
    Draw points uniformly from a convex polygon.

    Returns:
        The points, shape (count, 2), and the polygon's area.
    """
    first, second, third = corners[0], corners[1:-1], corners[2:]
    # A convex polygon is a fan of triangles; draw one by area, then a point in it.
    a, b = second - first, third - first
    areas = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2 + _LEAST_AREA
    chosen = random.choice(len(areas), size=count, p=areas / areas.sum())
    u, v = random.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points: npt.NDArray[np.float64] = first + u[:, None] * a[chosen] + v[:, None] * b[chosen]
    return points, float(areas.sum())
