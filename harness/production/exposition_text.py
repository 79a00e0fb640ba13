"""Writes rows of metrics as Prometheus text or as OpenMetrics, byte for byte the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .metric_set import METRICS, Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Rows = Mapping[str, Sequence[tuple[Sequence[str], float]]]
"""Metric name → its series: label values in the metric's order, and the value."""

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(rows: Rows, *, openmetrics: bool) -> bytes:
    """
    One exposition.

    Args:
        rows: series by metric; a metric without series is left out.
        openmetrics: names of families and the end mark as OpenMetrics wants them.

    Raises:
        KeyError: a name that is not in the metric set.
    """
    unknown = rows.keys() - {metric.name for metric in METRICS}
    if unknown:
        raise KeyError(sorted(unknown))
    parts: list[str] = []
    for metric in METRICS:
        series = rows.get(metric.name)
        if series:
            parts += _head(metric, openmetrics=openmetrics)
            parts += _lines(metric, series)
    if openmetrics:
        parts.append("# EOF\n")
    return "".join(parts).encode()


def _head(metric: Metric, *, openmetrics: bool) -> tuple[str, str]:
    family, kind = metric.name, metric.kind
    if openmetrics:
        family = family.removesuffix("_total").removesuffix("_info")
    elif kind == "info":
        kind = "gauge"
    return f"# HELP {family} {metric.help}\n", f"# TYPE {family} {kind}\n"


def _lines(metric: Metric, series: Iterable[tuple[Sequence[str], float]]) -> Iterable[str]:
    for values, number in series:
        pairs = ",".join(
            f'{name}="{value.translate(_ESCAPES)}"'
            for name, value in zip(metric.labels, values, strict=True)
        )
        labels = f"{{{pairs}}}" if pairs else ""
        yield f"{metric.name}{labels} {float(number)!r}\n"
