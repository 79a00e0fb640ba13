"""The charts of many runs: Pareto fronts against interactivity, and a metric over time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporters._chart_data import Band, Chart, Line
from exporters._scale import Point
from exporters._text import number
from harness.metrics import BOUNDARIES
from harness.record import RunRecord

_X: Final = "interactivity_tok_per_s.p50"
_INK: Final = 5
"""The style of the page's own ink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """
    A published point.

    Args:
        chart: `throughput`, `per_mw`, `joules` or `usd`.
        label: who published it, when, and of what; points of one label are one series.
        x: interactivity, tok/s/user.
        y: in the chart's unit.
        boundary: what its joules are of; it is drawn beside runs of the same only.
        tag: a few words for the drawing itself; empty: the label.
    """

    chart: str
    label: str
    x: float
    y: float
    boundary: str = "gpu"
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    name: str
    title: str
    y_label: str
    lower: bool
    value: Callable[[RunRecord, str], float | None]


def _metric(template: str) -> Callable[[RunRecord, str], float | None]:
    def value(record: RunRecord, boundary: str) -> float | None:
        found = record.metrics.get(template.format(boundary=boundary))
        return None if found is None else found.value

    return value


def _per_device(record: RunRecord, boundary: str) -> float | None:
    """Throughput a device of the boundary; None where the devices are not recorded."""
    rate = record.metrics.get("output_throughput_tok_per_s")
    devices = [
        len(energy["devices"])
        for window in record.windows[:1]
        for energy in window["energies"]
        if energy["boundary"] == boundary
    ]
    return rate.value / devices[0] if rate and devices and devices[0] else None


_KINDS: Final = (
    _Kind(
        name="throughput", title="Throughput a device against interactivity",
        y_label="output tok/s per metered device", lower=False, value=_per_device,
    ),
    _Kind(
        name="per_mw", title="Throughput a consumed megawatt against interactivity",
        y_label="output tok/s per consumed MW", lower=False,
        value=_metric("{boundary}_output_tok_per_s_per_mw_consumed"),
    ),
    _Kind(
        name="joules", title="Energy a token against interactivity", y_label="J per output token",
        lower=True, value=_metric("{boundary}_j_per_output_token"),
    ),
    _Kind(
        name="usd", title="Energy price of a million tokens against interactivity",
        y_label="USD of energy per 1M output tokens", lower=True,
        value=_metric("{boundary}_energy_usd_per_mtok_output"),
    ),
)  # fmt: skip


def pareto_charts(records: Sequence[RunRecord], anchors: Sequence[Anchor]) -> list[Chart]:
    """A chart for each kind and boundary that two runs or more have; the front is joined."""
    charts = []
    for boundary in BOUNDARIES:
        if boundary == "gpu_memory":
            continue
        for kind in _KINDS:
            found = _points(records, kind, boundary)
            if len(found) > 1:
                grey = [
                    one for one in anchors if one.chart == kind.name and one.boundary == boundary
                ]
                charts.append(_pareto(kind, boundary, found, grey))
    return charts


def front(points: Sequence[Point], *, lower: bool) -> list[Point]:
    """
    The points that no other beats in both, by rising x; more x is better.

    >>> front([(1, 9), (2, 5), (3, 7)], lower=False)
    [(1, 9), (3, 7)]
    """
    kept: list[Point] = []
    for x, y in sorted(points, key=lambda one: (-one[0], one[1] if lower else -one[1])):
        if not kept or (y < kept[-1][1] if lower else y > kept[-1][1]):
            kept.append((x, y))
    return kept[::-1]


def history_chart(series: Mapping[str, Any], name: str) -> Chart:
    """A metric of like runs over time, with its levels shaded."""
    days = [(began - series["began"][0]).total_seconds() / 86400 for began in series["began"]]
    points = list(zip(days, series["values"], strict=True))
    edges = [0, *(point["index"] for point in series["changes"]), len(points)]
    kind = series["power_kind"]
    shown = kind if kind == "measured" else kind.upper()
    return Chart(
        name=name,
        title=f"{series['metric']} of {series['title']} over time (power {shown})",
        about=f"{len(points)} runs that may be compared, the first on "
        f"{series['began'][0]:%Y-%m-%d}; {len(series['changes'])} changes of level. "
        "Shaded: stretches of one level.",
        x_label="days since the first run",
        y_label=f"{series['metric']} ({series['unit']})",
        lines=[Line(name="runs", points=points, dots=True, labels=series["run_ids"])],
        bands=[
            Band(name=f"level {place + 1}", start=days[start], end=days[end - 1])
            for place, (start, end) in enumerate(itertools.pairwise(edges))
        ],
        y_from_zero=False,
    )


def _points(
    records: Sequence[RunRecord], kind: _Kind, boundary: str
) -> list[tuple[Point, RunRecord]]:
    found = []
    for record in records:
        x, y = record.metrics.get(_X), kind.value(record, boundary)
        if x is not None and y is not None:
            found.append(((x.value, y), record))
    return found


def _pareto(
    kind: _Kind, boundary: str, found: Sequence[tuple[Point, RunRecord]], grey: Sequence[Anchor]
) -> Chart:
    by_kind: dict[str, list[tuple[Point, RunRecord]]] = {}
    for point, record in found:
        by_kind.setdefault(str(record.power_kind), []).append((point, record))
    lines = []
    # A made-up joule and a measured one never share a front.
    for style, (power, own) in enumerate(sorted(by_kind.items())):
        shown = power if power == "measured" else power.upper()
        good = [one for one in own if not _invalid(one[1])]
        bad = [one for one in own if _invalid(one[1])]
        best = front([point for point, _ in good], lower=kind.lower)
        lines += [Line(name=f"front, {shown}", points=best, style=style)] if best else []
        lines += [_runs(f"runs, {shown}", kind, good, style)] if good else []
        lines += [_runs(f"runs marked invalid, {shown}", kind, bad, _INK)] if bad else []
    series: dict[str, list[Anchor]] = {}
    for one in sorted(grey, key=lambda anchor: anchor.x):
        series.setdefault(one.label, []).append(one)
    lines += [
        Line(
            name=f"published: {label}",
            points=[(one.x, one.y) for one in own],
            dots=True,
            joined=True,
            labels=[f"{label}: {number(one.x)} tok/s/user, {number(one.y)}" for one in own],
            style=9,
            tag=own[-1].tag or label,
        )
        for label, own in series.items()
    ]
    better = "down" if kind.lower else "up"
    return Chart(
        name=f"pareto-{kind.name}-{boundary.replace('_', '-')}",
        title=f"{kind.title} ({boundary.replace('_', ' ')})",
        about=f"Each point is a run; better is right and {better}. The line joins the runs that "
        "no other beats in both, those left out that are marked invalid.",
        x_label="interactivity, median (tok/s/user)",
        y_label=kind.y_label,
        lines=lines,
    )


def _runs(name: str, kind: _Kind, found: Sequence[tuple[Point, RunRecord]], style: int) -> Line:
    labels = [
        f"{record.run_id}: {number(x)} tok/s/user, {number(y)} {kind.y_label}"
        for (x, y), record in found
    ]
    return Line(
        name=name, points=[point for point, _ in found], dots=True, labels=labels, style=style
    )


def _invalid(record: RunRecord) -> bool:
    return any(finding.severity == "invalid" for finding in record.findings)
