"""Numbers of a chart's axes: round ticks, fewer points without losing a spike, short texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

Point = tuple[float, float]
_TICKS: Final = 6
_MOST_POINTS: Final = 600


def ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """
    Round numbers that span a range.

    >>> ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / max(1, count - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """Fewer points that keep each stretch's lowest and highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most // 2))
    kept = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def short(value: float) -> str:
    """
    Four significant digits, with M for millions, and an exponent where a number would be long.

    >>> short(2_500_000), short(12_345), short(0.000123)
    ('2.5 M', '12,340', '1.23e-04')
    """
    if value == 0:
        return "0"
    if 1e6 <= abs(value) < 1e10:  # noqa: PLR2004 - megawatts' worth of tokens
        return f"{value / 1e6:,.4g} M"
    if 1e-3 <= abs(value) < 1e6:  # noqa: PLR2004 - where a plain number reads best
        text = f"{value:.4g}"
        return f"{float(text):,.0f}" if "e" in text or abs(value) >= 1e4 else text  # noqa: PLR2004
    return f"{value:.2e}"
