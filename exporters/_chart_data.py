"""What a chart shows: its series and stretches, in words, and as a table."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from exporters._scale import Point, short

_MOST_ROWS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One series.

    Args:
        name: for the legend and the text alternative.
        points: (x, y), x in ascending order for lines.
        dots: markers, not joined.
        joined: markers, and a line through them.
        labels: a text a point, shown on hovering; empty: none.
        style: 0 to 5: which colour and dash; 9: grey.
        low_high: (x, low, high), drawn as whiskers.
        tag: a few words written beside the last point.
    """

    name: str
    points: Sequence[Point]
    dots: bool = False
    joined: bool = False
    labels: Sequence[str] = ()
    style: int = 0
    low_high: Sequence[tuple[float, float, float]] = ()
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """
    A stretch of the x axis with a name: a phase, a window.

    Args:
        name: above it.
        start: on the x axis.
        end: on the x axis.
        edges: whether both ends are marked by lines, as those of a window.
        alarm: whether it is something bad, as throttling.
    """

    name: str
    start: float
    end: float
    edges: bool = False
    alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    What to draw.

    Args:
        name: unique in a page, a word; ids are made of it.
        title: above the chart.
        about: one or two sentences that say what the chart shows; its text alternative.
        x_label: with unit.
        y_label: with unit.
        lines: the series; at least one with a point.
        bands: behind them.
        y_from_zero: whether the y axis begins at 0.
        x_log: a logarithmic x axis.
        x_from_zero: whether the x axis begins at 0.
    """

    name: str
    title: str
    about: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    bands: Sequence[Band] = field(default_factory=tuple)
    y_from_zero: bool = True
    x_log: bool = False
    x_from_zero: bool = False


def alternative(chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    words = [chart.about, f"x: {chart.x_label}; y: {chart.y_label}."]
    for one in chart.lines:
        values = [y for _, y in one.points]
        if values:
            words.append(
                f"{one.name}: {len(values)} points from {short(min(values))} to "
                f"{short(max(values))}."
            )
    return " ".join(words)


def data_table(chart: Chart) -> str:
    """The points of each series as an HTML table; of many, every so manyth."""
    parts = []
    for one in chart.lines:
        every = max(1, math.ceil(len(one.points) / _MOST_ROWS))
        note = f", every {every}th point" if every > 1 else ""
        rows = "".join(
            f"<tr><td>{short(x)}</td><td>{short(y)}</td></tr>" for x, y in one.points[::every]
        )
        parts.append(
            f"<table><caption>{html.escape(one.name)}{note}</caption><thead><tr>"
            f'<th scope="col">{html.escape(chart.x_label)}</th>'
            f'<th scope="col">{html.escape(chart.y_label)}</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
    return "".join(parts)
