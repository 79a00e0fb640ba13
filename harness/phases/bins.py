"""Cuts a recording into bins of time, between ticks where those are known, with their power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from harness.joules.counter import stretches
from harness.joules.edges import REACH_NS
from harness.joules.following import accepted
from harness.joules.lag import estimate
from harness.joules.ticks import placed_ns
from harness.joules.trapezoid import cumulated_j
from harness.timeline import Window

if TYPE_CHECKING:
    import pandas as pd

    from harness.timeline import PowerTrace
    from harness.tokens import TokenTimes

Floats = npt.NDArray[np.float64]
TICKED_S: Final = 0.5
"""Length of a bin between ticks whose instants are known."""
PLAIN_S: Final = 1.0
"""Length of a bin where they are not."""
_LONGEST_RATIO: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """
    One server's power and tokens over some time.

    Args:
        trace: an energy counter, or power readings; of one server whose whole load
            is in *tokens*.
        windows: stretches of time to be used; an idle one tells the constant best.
        tokens: when output tokens came.
        requests: rows of RequestTrace.
        average: the device's average power, which tells whether the counter lags.
    """

    trace: PowerTrace
    windows: list[Window]
    tokens: TokenTimes
    requests: pd.DataFrame
    average: PowerTrace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """
    The mean power of bins.

    Args:
        start_ns: shape (n,), float64.
        end_ns: shape (n,), float64.
        power_w: shape (n,).
        doubt_s: the edges are ticks of a counter whose instants are known to within this;
            None: they are not.
    """

    start_ns: Floats
    end_ns: Floats
    power_w: Floats
    doubt_s: float | None


@dataclass(frozen=True, slots=True)
class _Curve:
    """Joules up to each of some instants; with what is unknown of them, None: no lattice tells."""

    t_ns: Floats
    energy_j: Floats
    doubt_ns: float | None


def powers(recording: Recording) -> Powers:
    """
    The bins of a recording's windows that its readings reach.

    Of a counter whose ticks a lattice places, a bin is a whole number of ticks and its joules
    are exact; otherwise edges are each second and joules are interpolated between readings.
    """
    curves = _curves(recording)
    doubts = [own.doubt_ns for own in curves if own.doubt_ns is not None]
    ticked = bool(curves) and len(doubts) == len(curves)
    parts: list[tuple[Floats, Floats]] = []
    for window in recording.windows:
        for own in curves:
            edges = _ticks_in(own.t_ns, window) if ticked else _seconds_in(own.t_ns, window)
            if len(edges) > 1:
                parts.append((edges, np.interp(edges, own.t_ns, own.energy_j)))
    none = np.zeros(0)
    start = np.concatenate([none, *(edges[:-1] for edges, _ in parts)])
    end = np.concatenate([none, *(edges[1:] for edges, _ in parts)])
    joules = np.concatenate([none, *(np.diff(energy) for _, energy in parts)])
    # A bin that holds a gap in the readings is longer than others.
    short = end - start <= _LONGEST_RATIO * (TICKED_S if ticked else PLAIN_S) * 1e9
    return Powers(
        start_ns=start[short],
        end_ns=end[short],
        power_w=joules[short] / (end - start)[short] * 1e9,
        doubt_s=max(doubts) / 1e9 if ticked else None,
    )


def _curves(recording: Recording) -> list[_Curve]:
    trace = recording.trace
    if trace.channel.quantity == "power":
        curve = _Curve(*cumulated_j(trace), None)
        return [curve] if len(curve.t_ns) else []
    found = []
    for seen in stretches(trace):
        first_ns, last_ns = float(seen.low_ns[0]), float(seen.high_ns[-1])
        knots = accepted(seen, first_ns, last_ns, REACH_NS)
        placed = placed_ns(knots)
        if placed is None:
            found.append(_Curve(knots.middle_ns, knots.energy_j, None))
            continue
        whole = Window(name="all", start_ns=int(knots.low_ns[0]), end_ns=int(knots.high_ns[-1]))
        lag = estimate(knots, recording.average, whole)
        late_ns, doubt_ns = lag.lag_s * 1e9, placed[1] + 2e9 * lag.sigma_s
        found.append(_Curve(placed[0] - late_ns, knots.energy_j, doubt_ns))
    return found


def _ticks_in(t_ns: Floats, window: Window) -> Floats:
    """Ticks in the window that are about half a second apart."""
    inside = t_ns[(t_ns >= window.start_ns) & (t_ns < window.end_ns)]
    if len(inside) < 2:  # noqa: PLR2004 - a bin has two edges
        return np.zeros(0)
    tick_ns = float(np.median(np.diff(inside)))
    step_ns = max(round(TICKED_S * 1e9 / tick_ns), 1) * tick_ns
    chosen = [inside[0]]
    while (at := int(np.searchsorted(inside, chosen[-1] + step_ns - tick_ns / 2))) < len(inside):
        chosen.append(inside[at])
    return np.array(chosen)


def _seconds_in(t_ns: Floats, window: Window) -> Floats:
    """Each second of the window, where readings reach."""
    start, end = max(window.start_ns, t_ns[0]), min(window.end_ns, t_ns[-1])
    count = int((end - start) / (PLAIN_S * 1e9)) if end > start else 0
    edges: Floats = start + np.arange(count + 1) * PLAIN_S * 1e9
    return edges
