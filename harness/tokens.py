"""When each output token arrived: joins the stream's events with what the server counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .plural import counted
from .record import Finding
from .timeline import NOT_SAID, EventKind, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTimes:
    """
    Tokens with their instants, over all requests given.

    Args:
        t_ns: shape (n,), int64, ascending: when a piece of output arrived.
        tokens: shape (n,), float64: how many tokens came with it. A whole number
            where the server counted along; otherwise the request's total spread
            evenly over its chunks.
        input_t_ns: shape (m,), int64, ascending: when a request's first content
            arrived, so that its input had been processed.
        input_tokens: shape (m,), int64: its input tokens.
        findings: what had to be assumed.
    """

    t_ns: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float64]
    input_t_ns: npt.NDArray[np.int64]
    input_tokens: npt.NDArray[np.int64]
    findings: tuple[Finding, ...]

    def output_in(self, window: Window) -> float:
        """Output tokens that arrived in [start, end)."""
        first, last = np.searchsorted(self.t_ns, [window.start_ns, window.end_ns])
        return float(self.tokens[first:last].sum())

    def input_in(self, window: Window) -> int:
        """Input tokens whose processing ended in [start, end)."""
        first, last = np.searchsorted(self.input_t_ns, [window.start_ns, window.end_ns])
        return int(self.input_tokens[first:last].sum())

    @property
    def prefill_alone(self) -> bool:
        """Whether every answer, in the window or not, was one token."""
        return len(self.input_t_ns) > 0 and float(self.tokens.sum()) == len(self.input_t_ns)


def token_times(events: npt.NDArray[Any], requests: pd.DataFrame) -> TokenTimes:
    """
    Give every output token its arrival time.

    Args:
        events: EVENT_DTYPE of one phase; requests without a row are in flight
            still, and count by the server's running count.
        requests: their rows, columns of RequestTrace.

    Returns:
        Tokens and instants. A request whose tokens nobody counted contributes
        none, and a finding says how many such requests there are.
    """
    rows = requests.set_index("request")
    usage = rows["osl_tokens"].to_dict()
    order = np.lexsort((events["t_ns"], events["request"]))
    parts, uncounted, spread = [], 0, 0
    ordered = events[order]
    for own in np.split(ordered, np.flatnonzero(np.diff(ordered["request"])) + 1):
        if not len(own):
            continue
        total = usage.get(int(own["request"][0]))
        counted = _running(own, None if pd.isna(total) else int(total))
        if counted is None and not pd.isna(total):
            counted = _spread(own, int(total))
            spread += 1
        if counted is None:
            uncounted += bool((own["kind"] == EventKind.CHUNK).any())
        else:
            parts.append(counted)
    t_ns = np.concatenate([part[0] for part in parts] or [np.zeros(0, np.int64)])
    tokens = np.concatenate([part[1] for part in parts] or [np.zeros(0, np.float64)])
    by_time = np.argsort(t_ns, kind="stable")
    started = requests.dropna(subset=["t_first_ns", "isl_tokens"]).sort_values("t_first_ns")
    return TokenTimes(
        t_ns=t_ns[by_time],
        tokens=tokens[by_time],
        input_t_ns=started["t_first_ns"].to_numpy(np.int64),
        input_tokens=started["isl_tokens"].to_numpy(np.int64),
        findings=_findings(uncounted=uncounted, spread=spread),
    )


def _running(
    own: npt.NDArray[Any], total: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None:
    """From the server's running count; what usage adds on top came with the response's end."""
    said = own[own["tokens"] != NOT_SAID]
    if not len(said):
        return None
    steps = np.diff(said["tokens"].astype(np.float64), prepend=0.0)
    t_ns = said["t_ns"].astype(np.int64)
    ends = own[own["kind"] == EventKind.END]
    if total is not None and len(ends) and total > said["tokens"][-1]:
        t_ns = np.append(t_ns, ends["t_ns"][-1])
        steps = np.append(steps, float(total - said["tokens"][-1]))
    return t_ns, steps


def _spread(
    own: npt.NDArray[Any], total: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None:
    """Evenly over the chunks: the best that usage alone allows."""
    chunks = own[own["kind"] == EventKind.CHUNK]
    where = chunks if len(chunks) else own[own["kind"] == EventKind.END]
    if not len(where):
        return None
    return where["t_ns"].astype(np.int64), np.full(len(where), total / len(where))


def _findings(*, uncounted: int, spread: int) -> tuple[Finding, ...]:
    found = []
    if uncounted:
        found.append(
            Finding(
                code="tokens_not_counted",
                severity="warning",
                message=f"{counted(uncounted, 'request')} sent content, but no token count: left "
                "out of every count of tokens, so joules per token reads too high",
            )
        )
    if spread:
        found.append(
            Finding(
                code="tokens_spread_over_chunks",
                severity="info",
                message=f"the server gave {counted(spread, 'request')} no running count, so each "
                "one's total was spread evenly over its chunks; at a window's edge this is inexact",
            )
        )
    return tuple(found)
