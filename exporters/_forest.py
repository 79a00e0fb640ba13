"""Draws how much each metric changed, with its interval and the smallest change that matters."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from exporters._scale import short, ticks

_WIDTH: Final = 720
_ROW: Final = 44
_LEFT, _RIGHT, _TOP, _BOTTOM = 250, 24, 20, 48
_LETTERS: Final = 34
_STYLES: Final = {"worse": 1, "better": 2, "same": 0, "cannot tell": 9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One metric.

    Args:
        name: of the metric.
        kind: of its joules, in capitals; empty where they were measured, or there are none.
        percent: how much it changed.
        low: lower end of the interval, percent; None: there is none.
        high: its upper end.
        threshold: the smallest change that matters, percent.
        word: the verdict.
    """

    name: str
    kind: str = ""
    percent: float
    low: float | None
    high: float | None
    threshold: float
    word: str


def forest(name: str, title: str, about: str, changes: Sequence[Change]) -> str:
    """
    A row a metric: best estimate, interval, and a shaded stretch of changes too small to matter.

    Args:
        name: unique in a page.
        title: above the picture.
        about: what it shows.
        changes: at least one.

    Returns:
        An HTML figure.
    """
    ends = [0.0]
    for one in changes:
        ends += [one.percent, -one.threshold, one.threshold]
        ends += [end for end in (one.low, one.high) if end is not None]
    margin = 0.04 * (max(ends) - min(ends))
    low, high = min(ends) - margin, max(ends) + margin

    def x(percent: float) -> float:
        return _LEFT + (percent - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    height = _TOP + _ROW * len(changes) + _BOTTOM
    bottom = height - _BOTTOM
    parts = []
    for value in ticks(low, high):
        kind = "axis" if value == 0 else "grid"
        parts.append(
            f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" y2="{bottom}" '
            f'class="{kind}"/><text x="{x(value):.1f}" y="{bottom + 17}" '
            f'text-anchor="middle">{short(value)}</text>'
        )
    parts += [_row(one, x, _TOP + _ROW * place) for place, one in enumerate(changes)]
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{height - 12}" text-anchor="middle">'
        "change from base to candidate (%)</text>"
    )
    words = html.escape(f"{about} {' '.join(_words(one) for one in changes)}")
    return (
        f'<figure id="{name}"><figcaption>{html.escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{words}</desc>'
        f'{"".join(parts)}</svg><p class="about">{html.escape(about)}</p></figure>'
    )


def _row(one: Change, x: Callable[[float], float], top: float) -> str:
    middle = top + _ROW / 2
    style = _STYLES[one.word]
    said = f"{one.word} ({one.kind})" if one.kind else one.word
    shown = one.name if len(one.name) <= _LETTERS else f"{one.name[: _LETTERS - 1]}…"
    small, large = x(-one.threshold), x(one.threshold)
    text = f'x="{_LEFT - 10}" text-anchor="end"'
    parts = [
        (
            f'<rect x="{small:.1f}" y="{top + 4:.1f}" width="{large - small:.1f}" '
            f'height="{_ROW - 8}" class="band b1"/>'
        ),
        f'<text {text} y="{middle - 3:.1f}">{html.escape(shown)}</text>',
        f'<text {text} y="{middle + 11:.1f}" class="small">{html.escape(said)}</text>',
    ]
    if one.low is not None and one.high is not None:
        parts.append(
            f'<line x1="{x(one.low):.1f}" x2="{x(one.high):.1f}" y1="{middle:.1f}" '
            f'y2="{middle:.1f}" class="whisker s{style}" stroke-width="2"/>'
        )
    parts.append(f'<circle cx="{x(one.percent):.1f}" cy="{middle:.1f}" r="5" class="d{style}"/>')
    return "".join(parts)


def _words(one: Change) -> str:
    known = (
        "no interval"
        if one.low is None or one.high is None
        else f"interval {one.low:+.2f} to {one.high:+.2f} %"
    )
    kind = f" ({one.kind})" if one.kind else ""
    return (
        f"{one.name}{kind}: {one.word}, {one.percent:+.2f} %, {known}, matters from "
        f"{one.threshold:.3g} %."
    )
