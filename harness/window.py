"""Finds the stretch of a run in which the load was steady, and tests that it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from .level import shift, start_up
from .plural import counted
from .record import Finding, Severity
from .silence import LEAST_S, silences
from .timeline import EventKind, Window
from .tokens import TokenTimes

MIN_RESIDENCES: Final = 3.0
"""Mean time of a request in the engine, so many times over, must fit into the window."""
_BINS: Final = 12
_FINE_BINS: Final = 24
_TREND_P: Final = 0.01
_TREND_RATIO: Final = 0.10
_SILENT_RATIO: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A window, or None with the findings that say why there is none."""

    window: Window | None
    findings: tuple[Finding, ...]


def run_window(events: npt.NDArray[Any]) -> Found:
    """From the first request sent to the last response's end: ramp and drain included."""
    sent = events[events["kind"] == EventKind.SENT]
    if not len(sent):
        return Found(window=None, findings=(_nothing_sent(),))
    last = int(events["t_ns"].max())
    return Found(
        window=Window(name="run", start_ns=int(sent["t_ns"].min()), end_ns=last + 1), findings=()
    )


def steady_window(
    events: npt.NDArray[Any], requests: pd.DataFrame, tokens: TokenTimes, *, min_s: float
) -> Found:
    """
    The stretch between the ramp up and the drain.

    It starts when as many requests have finished as were ever in flight until
    then, so that every slot has turned over once, and ends with the last request that finished
    before the last one was sent, after which slots empty and are not filled again. This is
    a rule about occupancy, not about a count of requests, so it holds for
    closed and open loops alike. What is still a start-up of the output rate after
    that (clocks that rise, kernels that are tuned) is cut off, by MSER, and that
    the rate was level in what is left is tested, by two tests: for a trend
    (Theil-Sen and Kendall) and for a step or a dip (Kuiper), see `harness.level`.

    Args:
        events: EVENT_DTYPE of the measured phase.
        requests: rows of RequestTrace of the same phase.
        tokens: of the same phase.
        min_s: a shorter window is flagged, in seconds.

    Returns:
        The window and what is wrong with it: too short, fewer than three mean
        residences, silences, a trend, a step or a dip in the token rate.
    """
    sent = _sends(events)
    ended = np.sort(events["t_ns"][events["kind"] == EventKind.END])
    if not len(sent):
        return Found(window=None, findings=(_nothing_sent(),))
    start = _turned_over(sent, ended)
    # From an end to an end, of which the first counts: from an end to the send that another end
    # made room for there would be one more of them than times between them.
    before = ended[ended <= sent[-1]]
    end = int(before[-1]) if len(before) else int(sent[-1])
    if start is None or end <= start:
        return Found(
            window=None,
            findings=(
                Finding(
                    code="no_steady_window",
                    severity="warning",
                    message=f"the {len(sent)} requests sent never filled and turned over every "
                    "slot before the load fell: run longer (load.duration_s) or ask for "
                    "window.kind = 'run'",
                ),
            ),
        )
    whole = Window(name="steady", start_ns=start, end_ns=end)
    window, trimmed = _trimmed(whole, tokens)
    findings = [*trimmed, *_length_findings(window, requests, min_s)]
    findings += silence_findings(window, events, tokens)
    findings += _trend_findings(window, tokens) or _shift_findings(window, tokens)
    return Found(window=window, findings=tuple(findings))


def _sends(events: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """
    When each request was sent, ascending.

    A request whose kept connection the server closed was sent twice; the second
    time counts, as it does in the request's own row.
    """
    sends = events[events["kind"] == EventKind.SENT]
    latest = sends[np.lexsort((sends["t_ns"], sends["request"]))]
    last_of_request = np.append(np.diff(latest["request"]) != 0, True)[: len(latest)]
    times: npt.NDArray[np.int64] = np.sort(latest["t_ns"][last_of_request])
    return times


def _turned_over(sent: npt.NDArray[np.int64], ended: npt.NDArray[np.int64]) -> int | None:
    """When the n-th request ended, n being the most in flight until then; None if never."""
    times = np.concatenate([sent, ended])
    steps = np.concatenate([np.ones(len(sent), int), -np.ones(len(ended), int)])
    # At the same instant an end comes before the send that it made room for.
    order = np.lexsort((steps, times))
    most = np.maximum.accumulate(np.cumsum(steps[order]))
    finished = np.cumsum(steps[order] < 0)
    reached = np.flatnonzero((finished >= most) & (steps[order] < 0))
    return int(times[order][reached[0]]) if len(reached) else None


def _length_findings(window: Window, requests: pd.DataFrame, min_s: float) -> list[Finding]:
    found = []
    if window.duration_s < min_s:
        found.append(
            Finding(
                code="window_short",
                severity="warning",
                message=f"the steady window is {window.duration_s:.1f} s, below {min_s:g} s "
                "(window.min_s): run longer before quoting its numbers",
            )
        )
    good = requests[requests["error_kind"].isna()].dropna(subset=["t_sent_ns"])
    if len(good):
        residence_s = float(((good["t_end_ns"] - good["t_sent_ns"]) / 1e9).mean())
        if window.duration_s < MIN_RESIDENCES * residence_s:
            found.append(
                Finding(
                    code="window_few_residences",
                    severity="warning",
                    message=f"the steady window of {window.duration_s:.1f} s holds "
                    f"{window.duration_s / residence_s:.1f} mean residences of "
                    f"{residence_s:.2f} s, below {MIN_RESIDENCES:g}: run longer",
                )
            )
    return found


def _trend_findings(window: Window, tokens: TokenTimes) -> list[Finding]:
    """Theil-Sen slope of the token rate over equal bins, tested by Kendall's tau."""
    edges = np.linspace(window.start_ns, window.end_ns, _BINS + 1)
    counts = np.histogram(tokens.t_ns, bins=edges, weights=tokens.tokens)[0]
    if counts.mean() <= 0:
        return []
    place = np.arange(_BINS)
    p_value = float(stats.kendalltau(place, counts).pvalue)
    change = float(stats.theilslopes(counts, place).slope) * (_BINS - 1) / float(counts.mean())
    if p_value < _TREND_P and abs(change) > _TREND_RATIO:
        return [
            Finding(
                code="window_trend",
                severity="warning",
                message=f"output tokens a second changed by {change:+.0%} over the window "
                f"(Kendall's tau, p = {p_value:.4f}): the load was not steady; warm up longer",
            )
        ]
    return []


def _trimmed(window: Window, tokens: TokenTimes) -> tuple[Window, list[Finding]]:
    """Without the start-up that is left after every slot has turned over."""
    rates, edges = _rates(window, tokens)
    cut = start_up(rates)
    if cut == 0:
        return window, []
    trimmed = Window(name=window.name, start_ns=int(edges[cut]), end_ns=window.end_ns)
    message = (
        f"the first {(trimmed.start_ns - window.start_ns) / 1e9:.1f} s after every slot had turned "
        f"over were left out: output tokens came at {rates[:cut].mean() / rates[cut:].mean():.0%} "
        "of the rate of what follows"
    )
    severity: Severity = "info" if cut <= _FINE_BINS // 4 else "warning"
    return trimmed, [Finding(code="window_trimmed", severity=severity, message=message)]


def _shift_findings(window: Window, tokens: TokenTimes) -> list[Finding]:
    rates, edges = _rates(window, tokens)
    found = shift(rates)
    if found is None:
        return []
    start, end = ((edges[place] - window.start_ns) / 1e9 for place in (found.first, found.last))
    message = (
        f"output tokens a second were {found.change_ratio:+.0%} from {start:.1f} s to {end:.1f} s "
        f"of the window (Kuiper, p = {found.p_value:.4f}): the load or the engine's speed changed"
    )
    return [Finding(code="window_level_shift", severity="warning", message=message)]


def silent_ns(
    window: Window, events: npt.NDArray[Any], tokens: TokenTimes
) -> npt.NDArray[np.int64]:
    """Shape (n, 2): stretches of the window without a token although several were in flight."""
    sent, ended = _sends(events), np.sort(events["t_ns"][events["kind"] == EventKind.END])
    found = np.clip(silences(tokens.t_ns, sent, ended), window.start_ns, window.end_ns)
    long: npt.NDArray[np.int64] = found[np.diff(found, axis=1)[:, 0] >= LEAST_S * 1e9]
    return long


def silence_findings(window: Window, events: npt.NDArray[Any], tokens: TokenTimes) -> list[Finding]:
    """What such stretches mean, if they are more than a twentieth of the window."""
    silent_s = np.diff(silent_ns(window, events, tokens), axis=1)[:, 0] / 1e9
    share = float(silent_s.sum()) / window.duration_s
    if share < _SILENT_RATIO:
        return []
    message = (
        f"no token came in {counted(len(silent_s), 'stretch', 'stretches')} of up to "
        f"{silent_s.max():.1f} s, {share:.0%} of the window, although requests were in flight: "
        "the engine compiled, swapped, or read long prompts; its joules per token hold for a load "
        "with such pauses"
    )
    return [Finding(code="engine_silent", severity="warning", message=message)]


def _rates(
    window: Window, tokens: TokenTimes
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    edges = np.linspace(window.start_ns, window.end_ns, _FINE_BINS + 1)
    return np.histogram(tokens.t_ns, bins=edges, weights=tokens.tokens)[0], edges


def _nothing_sent() -> Finding:
    return Finding(
        code="nothing_sent", severity="invalid", message="no request was sent in the measured phase"
    )
