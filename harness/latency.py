"""Latencies of requests: definitions, and their mean and percentiles with intervals."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from .record import MetricValue
from .timeline import EventKind

PERCENTILES: Final = (50, 90, 95, 99)
_CONFIDENCE: Final = 0.95
_MEAN_INTERVAL: Final = "95 % t-interval over this run's observations; not over runs"
_RANK_INTERVAL: Final = "95 % order-statistic interval over this run's observations; not over runs"


def sent_in(requests: pd.DataFrame, start_ns: int, end_ns: int) -> pd.DataFrame:
    """Rows of RequestTrace of those that were sent in [start, end)."""
    sent = requests["t_sent_ns"]
    return requests[((sent >= start_ns) & (sent < end_ns)).fillna(value=False)]


def request_latencies(requests: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """
    Latencies of successful requests, in seconds.

    Args:
        requests: rows of RequestTrace; those with an error or no content are left out.

    Returns:
        `ttft_s` sent → first chunk with content; `e2e_s` sent → end of the
        response; `tpot_s` (e2e - ttft)/(osl - 1), for answers of 2 tokens or
        more; `interactivity_tok_per_s` 1/tpot; and, measured from when the
        schedule meant to send, `ttft_from_due_s` and `e2e_from_due_s`, which a
        client that falls behind cannot make look better (coordinated omission).
    """
    good = requests[requests["error_kind"].isna()].dropna(
        subset=["t_sent_ns", "t_first_ns", "t_end_ns"]
    )
    sent, first, end, due = (
        good[name].to_numpy(np.int64)
        for name in ("t_sent_ns", "t_first_ns", "t_end_ns", "t_due_ns")
    )
    ttft_s = (first - sent) / 1e9
    e2e_s = (end - sent) / 1e9
    osl = good["osl_tokens"].to_numpy(np.float64, na_value=np.nan)
    several = osl >= 2  # noqa: PLR2004 - one token has no time between tokens
    tpot_s = (e2e_s - ttft_s)[several] / (osl[several] - 1)
    tpot_s = tpot_s[tpot_s > 0]
    return {
        "ttft_s": ttft_s,
        "tpot_s": tpot_s,
        "e2e_s": e2e_s,
        "interactivity_tok_per_s": 1 / tpot_s,
        "ttft_from_due_s": (first - due) / 1e9,
        "e2e_from_due_s": (end - due) / 1e9,
    }


def chunk_gaps_s(events: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """
    Every gap between successive chunks with content of one request, in seconds.

    Args:
        events: EVENT_DTYPE, any order, any number of requests.
    """
    chunks = events[events["kind"] == EventKind.CHUNK]
    chunks = chunks[np.lexsort((chunks["t_ns"], chunks["request"]))]
    same_request = np.diff(chunks["request"]) == 0
    gaps: npt.NDArray[np.float64] = np.diff(chunks["t_ns"])[same_request] / 1e9
    return gaps


def summarise(values: npt.NDArray[np.float64], unit: str) -> dict[str, MetricValue]:
    """
    Mean and percentiles of one latency.

    Args:
        values: shape (n,); empty gives an empty result, never zeros.
        unit: of the values.

    Returns:
        `mean`, `p50`, `p90`, `p95`, `p99` → value. The mean's interval is
        Student's t; a percentile's is the distribution-free interval between
        two order statistics, and absent where n is too small to have one.
    """
    n = len(values)
    if n == 0:
        return {}
    ordered = np.sort(values)
    mean = float(values.mean())
    low = high = None
    if n > 1:
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
        low, high = mean - float(half), mean + float(half)
    found = {
        "mean": MetricValue(
            value=mean,
            low=low,
            high=high,
            unit=unit,
            n=n,
            interval=None if low is None else _MEAN_INTERVAL,
        )
    }
    for percent in PERCENTILES:
        found[f"p{percent}"] = _percentile(ordered, percent / 100, unit)
    return found


def _percentile(ordered: npt.NDArray[np.float64], share: float, unit: str) -> MetricValue:
    """
    One percentile, linear between order statistics.

    The interval's ranks come from the binomial distribution of how many values
    lie below the true percentile (Hahn & Meeker, Statistical Intervals, 5.2).
    """
    n = len(ordered)
    tail = (1 - _CONFIDENCE) / 2
    below = int(stats.binom.ppf(tail, n, share))
    above = int(stats.binom.ppf(1 - tail, n, share)) + 1
    exists = below >= 1 and above <= n
    return MetricValue(
        value=float(np.quantile(ordered, share)),
        low=float(ordered[below - 1]) if exists else None,
        high=float(ordered[above - 1]) if exists else None,
        unit=unit,
        n=n,
        interval=_RANK_INTERVAL if exists else None,
    )
