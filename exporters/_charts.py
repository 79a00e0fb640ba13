"""Draws charts as SVG text: axes with units, a text alternative, the data as a table beside it."""

from __future__ import annotations

import dataclasses
import html
import math
from dataclasses import dataclass
from typing import Final

from exporters._chart_data import Band, Chart, Line, alternative, data_table
from exporters._scale import short, thinned, ticks

WIDTH: Final = 720
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 16, 14, 52
_LABEL_ROW: Final = 13
_LETTER: Final = 5.6
"""Width of a small letter, on average: labels must not lie on each other."""
_DENSE: Final = 250
"""A line of more points is drawn thin and whole: its dashes would be noise."""
_X_TICKS: Final = 9
_STYLES: Final = 6
"""Colours in the page's style sheet; with dashes and markers they repeat later."""


def figure(chart: Chart) -> str:
    """The chart as an HTML figure: SVG, legend, and its data as a table that opens."""
    name = html.escape(chart.name)
    legend = "".join(
        f'<li><svg viewBox="0 0 24 12" aria-hidden="true">{_sample(one)}</svg>'
        f"{html.escape(one.name)}</li>"
        for one in chart.lines
    )
    return (
        f'<figure id="{name}"><figcaption>{html.escape(chart.title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{html.escape(chart.title)}</title>'
        f'<desc id="{name}-d">{html.escape(alternative(chart))}</desc>'
        f"{_drawing(chart)}</svg>"
        f'<ul class="legend">{legend}</ul>'
        f'<p class="about">{html.escape(chart.about)}</p>'
        f"<details><summary>Data of this chart</summary>{data_table(chart)}</details></figure>"
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    x_log: bool
    top: float

    def x(self, value: float) -> float:
        low, high = self.x_low, self.x_high
        if self.x_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - self.top - _BOTTOM)


def _scale(chart: Chart) -> _Scale:
    xs = [x for one in chart.lines for x, _ in one.points]
    xs += [edge for band in chart.bands for edge in (band.start, band.end)]
    ys = [y for one in chart.lines for _, y in one.points]
    ys += [y for one in chart.lines for _, low, high in one.low_high for y in (low, high)]
    x_low, x_high = _widened(min(xs), max(xs), positive=chart.x_log)
    if chart.x_from_zero:
        x_low = min(0.0, x_low)
    if any(one.dots for one in chart.lines) and not chart.x_log:
        # A marker on the edge would be cut in half.
        x_low, x_high = x_low - 0.02 * (x_high - x_low), x_high + 0.02 * (x_high - x_low)
    y_low, y_high = _widened(min(ys), max(ys), positive=False)
    if chart.y_from_zero:
        y_low = min(0.0, y_low)
    margin = 0.06 * (y_high - y_low)
    y_high += margin
    y_low -= 0.0 if chart.y_from_zero else margin
    bare = _Scale(x_low, x_high, y_low, y_high, chart.x_log, _TOP)
    rows = max(_label_rows(chart, bare), default=-1) + 1
    return dataclasses.replace(bare, top=_TOP + rows * _LABEL_ROW)


def _widened(low: float, high: float, *, positive: bool) -> tuple[float, float]:
    if high > low:
        return low, high
    half = abs(low) * 0.1 or 1.0
    return (low / 1.2 if positive else low - half), high + half


def _drawing(chart: Chart) -> str:
    scale = _scale(chart)
    parts = [_bands(chart, scale), _axes(chart, scale)]
    for one in chart.lines:
        style = _style(one)
        if one.joined or not one.dots:
            points = thinned(one.points)
            dense = " dense" if len(points) > _DENSE else ""
            path = "M" + " L".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)
            parts.append(f'<path d="{path}" class="s{style}{dense}" fill="none"/>')
        parts += [
            f'<line x1="{scale.x(x):.1f}" x2="{scale.x(x):.1f}" y1="{scale.y(low):.1f}" '
            f'y2="{scale.y(high):.1f}" class="whisker s{style}"/>'
            for x, low, high in one.low_high
        ]
        if one.dots:
            for place, (x, y) in enumerate(one.points):
                label = html.escape(one.labels[place]) if one.labels else ""
                hover = f"<title>{label}</title>" if label else ""
                parts.append(_marker(scale.x(x), scale.y(y), style, hover))
        if one.tag:
            parts.append(_tag(one, scale))
    return "".join(parts)


def _tag(one: Line, scale: _Scale) -> str:
    """Beside the last point, to its left where there is no room to its right."""
    x, y = scale.x(one.points[-1][0]), scale.y(one.points[-1][1])
    left = x + 7 + len(one.tag) * _LETTER > WIDTH - _RIGHT
    place = f'x="{x - 7:.1f}" text-anchor="end"' if left else f'x="{x + 7:.1f}"'
    return f'<text {place} y="{y + 3:.1f}" class="small">{html.escape(one.tag)}</text>'


def _sample(one: Line) -> str:
    if one.dots:
        return _marker(12, 6, _style(one), "")
    return f'<line x1="0" y1="6" x2="24" y2="6" class="s{_style(one)}"/>'


def _marker(x: float, y: float, style: int, hover: str) -> str:
    if style % 3 == 1:
        place = f'x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
        return f'<rect {place} class="d{style}">{hover}</rect>'
    if style % 3 == 2:  # noqa: PLR2004 - three shapes
        path = f"M{x:.1f},{y - 5:.1f} l5,9 h-10 z"
        return f'<path d="{path}" class="d{style}">{hover}</path>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="d{style}">{hover}</circle>'


def _bands(chart: Chart, scale: _Scale) -> str:
    parts = []
    top, bottom = scale.top, HEIGHT - _BOTTOM
    for place, (band, row) in enumerate(zip(chart.bands, _label_rows(chart, scale), strict=True)):
        start, end = scale.x(band.start), scale.x(band.end)
        kind = "alarm" if band.alarm else f"b{place % 2}"
        parts.append(
            f'<rect x="{start:.1f}" y="{top}" width="{max(0.5, end - start):.1f}" '
            f'height="{bottom - top}" class="band {kind}"/>'
            f'<text x="{_label_x(band, scale):.1f}" y="{_TOP + row * _LABEL_ROW}" '
            f'class="small{" bad" if band.alarm else ""}">{html.escape(band.name)}</text>'
        )
        if band.edges:
            parts += [
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{bottom}" class="edge"/>'
                for x in (start, end)
            ]
    return "".join(parts)


def _label_rows(chart: Chart, scale: _Scale) -> list[int]:
    """For each band the row above the drawing where its name lies on no other's."""
    ends: list[float] = []
    rows = []
    for band in chart.bands:
        start = _label_x(band, scale)
        row = next((at for at, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + len(band.name) * _LETTER]
        rows.append(row)
    return rows


def _label_x(band: Band, scale: _Scale) -> float:
    """At the band's start, but never beyond the drawing's right edge."""
    return max(_LEFT, min(scale.x(band.start), WIDTH - _RIGHT - len(band.name) * _LETTER))


def _axes(chart: Chart, scale: _Scale) -> str:
    bottom = HEIGHT - _BOTTOM
    parts = []
    for value in ticks(scale.y_low, scale.y_high):
        y = scale.y(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )
    for value in _x_ticks(chart, scale):
        x = scale.x(value)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" class="axis"/>'
            f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{short(value)}</text>'
        )
    middle = (scale.top + bottom) / 2
    parts.append(
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" class="axis"/>'
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">'
        f"{html.escape(chart.x_label)}</text>"
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(chart.y_label)}</text>"
    )
    return "".join(parts)


def _x_ticks(chart: Chart, scale: _Scale) -> list[float]:
    if not chart.x_log:
        return ticks(scale.x_low, scale.x_high, _X_TICKS)
    low, high = math.log10(scale.x_low), math.log10(scale.x_high)
    factors = (1, 2, 5) if high - low < 3 else (1,)  # noqa: PLR2004 - decades
    found = [
        factor * 10.0**decade
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]
    return [one for one in found if scale.x_low <= one <= scale.x_high]


def _style(one: Line) -> int:
    return one.style if one.style == _GREY else one.style % _STYLES


_GREY: Final = 9
