"""The words of a page: a metric's title, a rounded number, an interval, the kind of power."""

from __future__ import annotations

from harness.metrics import boundary_of, card_of
from harness.record import MetricValue, RunRecord


def title_of(key: str) -> str:
    """What a metric is called, with its statistic and its boundary."""
    card = card_of(key)
    statistic = key.rpartition(".")[2] if card.distribution else ""
    boundary = boundary_of(key)
    named = f"{card.title} {statistic}".strip()
    return f"{named} ({boundary.replace('_', ' ')})" if boundary else named


def number(value: float) -> str:
    """Four significant digits."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e9:  # noqa: PLR2004 - where a plain number reads best
        rounded = float(f"{value:.4g}")
        return f"{rounded:,.0f}" if abs(value) >= 1e4 else f"{rounded:.10f}".rstrip("0").rstrip(".")  # noqa: PLR2004
    return f"{value:.3e}"


def interval_of(value: MetricValue) -> str:
    """`low … high`, or that there is none."""
    if value.low is None or value.high is None:
        return "no interval"
    return f"{number(value.low)} … {number(value.high)}"


def kind_of(record: RunRecord) -> str:
    """How far the joules can be trusted."""
    return record.power_kind or "not metered"
