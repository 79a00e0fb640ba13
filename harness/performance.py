"""The metrics that hold no joules: throughput, latencies, lengths, and the counts of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from .cached_input import input_counts
from .latency import chunk_gaps_s, request_latencies, sent_in, summarise
from .metrics import card_of
from .record import Finding, MetricValue
from .timeline import EventKind, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from .store import RawRun
    from .tokens import TokenTimes

_LATENCIES: Final = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
_SHORTEST_S: Final = 0.1
"""Streams that go in step end and are sent anew within milliseconds; that is no rate of theirs."""
_OPEN_LOOP_ONLY: Final = ("ttft_from_due_s", "e2e_from_due_s")


def throughput(
    window: Window, requests: pd.DataFrame, tokens: TokenTimes, findings: list[Finding]
) -> dict[str, MetricValue]:
    """
    Tokens and requests a second, of one window; a rate of nothing is absent, not 0.

    Args:
        window: refused, with a finding, if it is shorter than a tenth of a second.
        requests: rows of RequestTrace of the measured phase.
        tokens: of the same phase.
        findings: gets why there are no rates.
    """
    if window.duration_s < _SHORTEST_S:
        findings.append(
            Finding(
                code="window_too_short_for_rates",
                severity="invalid",
                message=f"the window is {window.duration_s:.2g} s, below {_SHORTEST_S:g} s: what "
                "arrived in it says nothing of tokens or requests a second",
            )
        )
        return {}
    good = requests[requests["error_kind"].isna()]
    ended = good["t_end_ns"]
    count = int(((ended >= window.start_ns) & (ended < window.end_ns)).sum())
    output, both = tokens.output_in(window), tokens.output_in(window) + tokens.input_in(window)
    rates = {
        "output_throughput_tok_per_s": (output, round(output)),
        "total_throughput_tok_per_s": (both, round(both)),
        "request_throughput_rps": (count, count),
    }
    return {
        key: MetricValue(value=amount / window.duration_s, unit=card_of(key).unit, n=n)
        for key, (amount, n) in rates.items()
        if amount > 0
    }


def latencies(
    window: Window, requests: pd.DataFrame, events: npt.NDArray[Any], pattern: str
) -> dict[str, MetricValue]:
    """Of requests sent inside the window; which end after it, under nearly the same load."""
    inside = sent_in(requests, window.start_ns, window.end_ns)
    own_events = events[np.isin(events["request"], inside["request"].to_numpy(np.int64))]
    good = inside[inside["error_kind"].isna()]
    families = request_latencies(inside) | {"itl_s": chunk_gaps_s(own_events)}
    for name in ("isl_tokens", "osl_tokens"):
        families[name] = good[name].dropna().to_numpy(np.float64)
    if pattern in {"concurrency", "max"}:
        for name in _OPEN_LOOP_ONLY:
            families.pop(name)
    return {
        f"{family}.{statistic}": value
        for family, values in families.items()
        for statistic, value in summarise(values, card_of(f"{family}.mean").unit).items()
    }


def absences(metrics: Mapping[str, MetricValue], requests: pd.DataFrame) -> list[Finding]:
    """Why a latency is not among the metrics of a window, one finding for each reason."""
    good = requests[requests["error_kind"].isna()]
    # Between the tokens of answers of one there is no time that could be missing.
    alone = len(good) > 0 and good["osl_tokens"].eq(1).all()
    wanted = [name for name in _LATENCIES if not (alone and name in {"tpot_s", "itl_s"})]
    missing = [name for name in wanted if f"{name}.mean" not in metrics]
    if not missing:
        return []
    if not len(good):
        why = "no request succeeded"
    elif good["t_first_ns"].isna().all():
        why = "no answer had any content"
    elif missing == ["tpot_s"]:
        why = "no answer was counted to have two tokens or more"
    else:
        why = "no request that succeeded was sent in the window, or its answer came in one piece"
    message = f"{', '.join(missing)} cannot be given: {why}"
    return [Finding(code="latency_missing", severity="warning", message=message)]


def token_counts(
    raw: RawRun, requests: pd.DataFrame, events: npt.NDArray[Any]
) -> tuple[dict[str, Any], list[Finding]]:
    """Tokens of the measured phase, output three ways, and a finding where these differ."""
    usage = requests["osl_tokens"].dropna()
    stream = requests["stream_tokens"].dropna()
    readings = {mark["when"]: mark for mark in raw.marks if mark["mark"] == "token_counters"}
    counted = None
    if {"before", "after"} <= readings.keys():
        counted = readings["after"]["generated"] - readings["before"]["generated"]
    read, cached = input_counts(requests, raw.marks)
    counts = {
        "usage": int(usage.sum()) if len(usage) else None,
        "stream": int(stream.sum()) if len(stream) else None,
        "server_counter": int(counted) if counted is not None else None,
        "input": read,
        "input_cached": cached,
        "chunks": int((events["kind"] == EventKind.CHUNK).sum()),
        "requests": len(requests),
        "requests_failed": int(requests["error_kind"].notna().sum()),
    }
    ways = {key: counts[key] for key in ("usage", "stream", "server_counter")}
    known = {key: value for key, value in ways.items() if value is not None}
    if len(set(known.values())) <= 1:
        return counts, []
    listed = ", ".join(f"{key} {value}" for key, value in known.items())
    message = f"output tokens of the measured phase differ by how they are counted: {listed}"
    return counts, [Finding(code="tokens_disagree", severity="warning", message=message)]


def request_findings(requests: pd.DataFrame) -> list[Finding]:
    """What requests that failed, or were answered at another length, mean for the numbers."""
    found = []
    failed = requests[requests["error_kind"].notna()]
    if len(failed):
        kinds = failed["error_kind"].value_counts()
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        found.append(
            Finding(
                code="requests_failed",
                severity="warning",
                message=f"{len(failed)} of {len(requests)} requests failed: {listed}; they are "
                "left out of the latencies",
            )
        )
    good = requests[requests["error_kind"].isna()]
    other = good[good["osl_tokens"].notna() & (good["osl_tokens"] != good["max_osl_tokens"])]
    if len(other):
        found.append(
            Finding(
                code="osl_differs",
                severity="warning",
                message=f"{len(other)} of {len(good)} answers are not as long as asked: the work "
                "done differs from the workload's description",
            )
        )
    return found
