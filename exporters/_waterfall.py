"""Draws how parts add up to a whole, as SVG with a text alternative."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping
from typing import Final

from exporters._scale import short, ticks

_WIDTH: Final = 720
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 16, 18, 46
_STYLES: Final = 5
_LABEL_LETTERS: Final = 13


def waterfall(
    name: str, title: str, about: str, unit: str, parts: Mapping[str, float | None]
) -> str:
    """
    Bars from left to right, each on top of those before, and their sum.

    Args:
        name: unique in a page.
        title: above the picture.
        about: what it shows.
        unit: of the values.
        parts: name → value; None is left out, and said to be.

    Returns:
        An HTML figure; empty where no part has a value.
    """
    known = {key: value for key, value in parts.items() if value is not None}
    missing = [key for key, value in parts.items() if value is None]
    total = sum(known.values())
    if not known or total <= 0:
        return ""
    label = "sum" if missing else "total"
    words = ", ".join(f"{key}: {short(value)}" for key, value in {**known, label: total}.items())
    without = f" The sum is without: {', '.join(missing)}." if missing else ""
    text = html.escape(f"{about} In {unit}: {words}.{without}")
    return (
        f'<figure id="{name}"><figcaption>{html.escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{text}</desc>'
        f"{_bars(known, label, total, unit)}</svg>"
        f'<p class="about">{html.escape(about + without)}</p></figure>'
    )


def _bars(known: Mapping[str, float], label: str, total: float, unit: str) -> str:
    height = _HEIGHT - _TOP - _BOTTOM
    bottom = _HEIGHT - _BOTTOM
    width = (_WIDTH - _LEFT - _RIGHT) / (len(known) + 1)
    parts = []
    for value in ticks(0, total):
        y = bottom - value / total * height
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
    under = 0.0
    for place, (key, value) in enumerate([*known.items(), (label, total)]):
        floor = 0.0 if place == len(known) else under
        x, y = _LEFT + (place + 0.1) * width, bottom - (floor + value) / total * height
        middle = _LEFT + (place + 0.5) * width
        style = _STYLES if place == len(known) else place % _STYLES
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.8 * width:.1f}" '
            f'height="{value / total * height:.2f}" class="d{style}"/>'
            f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">{short(value)}</text>'
            + "".join(
                f'<text x="{middle:.1f}" y="{bottom + 17 + 14 * row}" text-anchor="middle">'
                f"{html.escape(line)}</text>"
                for row, line in enumerate(textwrap.wrap(key, _LABEL_LETTERS))
            )
        )
        under += value
    middle = _TOP + height / 2
    parts.append(
        f'<text transform="translate(14,{middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(unit)}</text>"
    )
    return "".join(parts)
