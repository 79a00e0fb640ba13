"""Energy of a boundary by its devices' cumulative counters, with the interval it lies in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.errors import CoverageError
from harness.record import Finding
from harness.timeline import Channel, PowerTrace, ReadStatus, Window

from . import following
from .counter import Knots, stretches
from .edges import DRAWS, REACH_NS, Placed, place, snap
from .inside import bends, draw_shapes, energy_j
from .lag import Lag, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

_QUANTILES: Final = (0.0075, 0.9925)
_LOCKED_HIGH: Final = 0.75
"""Of the draws have the higher power at the ticks, of two that cannot be told apart: the worse."""
_SAME_PHASE: Final = 0.02
_DOUBT_RATIO: Final = 1.5
"""A jitter that would make the interval wider than by this is worth a finding."""
_SEED: Final = 20_261_123
"""Fixed, so that recomputing a run gives the same interval to the last digit."""
_NEAR_NS: Final = 150_000_000
_LONG_NS: Final = 5_000_000_000
"""How far from an edge power readings and counter are held against each other."""
_EDGE_SLACK_NS: Final = 200_000_000
"""An edge this close to the readings is reached by the next tick or the one before."""


def counter_energy_j(
    counters: Mapping[str, PowerTrace],
    powers: Mapping[str, PowerTrace],
    averages: Mapping[str, PowerTrace],
    window: Window,
    findings: list[Finding],
) -> tuple[Window, float, float, float, int]:
    """
    Joules of all devices of a boundary between two common, snapped edges.

    Args:
        counters: device → its energy counter.
        powers: device → its instant power, which tells how uneven the load is near an
            edge; may be empty.
        averages: device → its average power, which tells whether the counter lags; may
            be empty.
        window: as asked.
        findings: gets what cut the window short.

    Returns:
        The snapped window, its joules, their lower and upper end, and the number of
        readings inside.

    Raises:
        CoverageError: a counter has no reading in the window, or too few ticks.
    """
    chosen, start_ns, end_ns = _covered(counters, window, findings)
    chosen = {
        name: following.accepted(knots, start_ns, end_ns, REACH_NS)
        for name, knots in chosen.items()
    }
    random = np.random.default_rng(_SEED)
    lags = {name: estimate(knots, averages.get(name), window) for name, knots in chosen.items()}
    findings += [_lagging(counters[name].channel, lag) for name, lag in lags.items() if lag.lag_s]
    chosen = {name: _earlier(knots, lags[name].lag_s) for name, knots in chosen.items()}
    quanta_j = {name: trace.channel.quantum or 0.0 for name, trace in counters.items()}
    placed: dict[str, list[Placed]] = {}
    possible_ns: dict[str, float] = {}
    for name, knots in chosen.items():
        own, possible_ns[name] = place(knots, (start_ns, end_ns), random, quantum_j=quanta_j[name])
        placed[name] = _blurred(own, lags[name].sigma_s, random)
    # A burst reads on to the next tick, which shows the energy of a lag before.
    burst_ns = min(lag.lag_s for lag in lags.values()) * 1e9 if window.planned else 0.0
    snapped_ns = [
        snap(
            [(chosen[name], edges[side]) for name, edges in placed.items()],
            asked_ns - burst_ns,
            planned=window.planned,
        )
        for side, asked_ns in enumerate((start_ns, end_ns))
    ]
    if snapped_ns[1] <= snapped_ns[0]:
        raise _too_short(window)
    total_j, drawn_j, samples = 0.0, np.zeros(DRAWS), 0
    bent = {name: bends(knots, quanta_j[name]) for name, knots in chosen.items()}
    shapes = draw_shapes(list(bent.values()), random, DRAWS)
    # What is in step with the ticks of several is in step with itself.
    locked = [np.where(random.random(DRAWS) < _LOCKED_HIGH, 1.0, -1.0)] * 2
    if not _in_phase(placed, snapped_ns):
        locked[1] = random.choice([-1.0, 1.0], size=DRAWS)
    for name, edges in placed.items():
        for side, sign in ((0, -1.0), (1, 1.0)):
            near_w = _near_w(powers.get(name), snapped_ns[side])
            best_j, draws_j = energy_j(
                edges[side],
                snapped_ns[side],
                near_w=near_w,
                off_ratio=_off_ratio(powers.get(name), chosen[name], snapped_ns[side]),
                own=bent[name],
                shapes=shapes[side],
                locked=locked[side],
            )
            total_j += sign * best_j
            drawn_j += sign * draws_j
            # The counter shows whole quanta, rounded down.
            drawn_j += sign * random.uniform(0, quanta_j[name], DRAWS)
        t_ns = counters[name].t_before_ns
        samples += int(np.count_nonzero((t_ns >= snapped_ns[0]) & (t_ns <= snapped_ns[1])))
    low_j, high_j = np.quantile(drawn_j, _QUANTILES)
    doubt = _doubt(chosen, placed, possible_ns, snapped_ns, float(high_j - low_j) / 2)
    if doubt is not None:
        findings.append(doubt)
    gain = max(trace.channel.gain_ratio or 0.0 for trace in counters.values())
    return (
        dataclasses.replace(window, start_ns=round(snapped_ns[0]), end_ns=round(snapped_ns[1])),
        total_j,
        min(float(low_j), total_j) - gain * total_j,
        max(float(high_j), total_j) + gain * total_j,
        samples,
    )


def _covered(
    counters: Mapping[str, PowerTrace], window: Window, findings: list[Finding]
) -> tuple[dict[str, Knots], float, float]:
    """Each device's knots, and the part of the window that all of them reach."""
    chosen: dict[str, Knots] = {}
    start_ns, end_ns = float(window.start_ns), float(window.end_ns)
    for device, trace in counters.items():
        knots = _stretch(stretches(trace), window)
        if knots is None:
            raise CoverageError(
                f"{trace.channel.name} has no two readings that differ in the window "
                f"{window.name!r}",
                remedy="start the sampler before the window and stop it after",
            )
        chosen[device] = knots
        first_ns, last_ns = float(knots.low_ns[0]), float(knots.high_ns[-1])
        slack_ns = max(_EDGE_SLACK_NS, 2 * float(np.median(np.diff(trace.t_before_ns))))
        if knots.t_first_ns > window.start_ns + slack_ns:
            findings.append(_late(trace.channel, knots, window))
        if knots.t_last_ns < window.end_ns - slack_ns:
            findings.append(_cut(trace.channel, knots, window))
        start_ns, end_ns = max(start_ns, first_ns), min(end_ns, last_ns)
    if end_ns <= start_ns:
        raise _too_short(window)
    return chosen, start_ns, end_ns


def _earlier(knots: Knots, lag_s: float) -> Knots:
    """The same energies, at the instants at which they were drawn rather than shown."""
    shift_ns = lag_s * 1e9
    return dataclasses.replace(
        knots, low_ns=knots.low_ns - shift_ns, high_ns=knots.high_ns - shift_ns
    )


def _blurred(edges: list[Placed], sigma_s: float, random: np.random.Generator) -> list[Placed]:
    """The same draws, with what is unknown of the lag: one error for both edges."""
    if not sigma_s:
        return edges
    error_ns = random.normal(0, sigma_s * 1e9, size=(DRAWS, 1))
    return [dataclasses.replace(edge, draws_ns=edge.draws_ns + error_ns) for edge in edges]


def _lagging(channel: Channel, lag: Lag) -> Finding:
    return Finding(
        code="counter_lags",
        severity="info",
        message=(
            f"{channel.name}: what a tick shows is {lag.lag_s * 1e3:.0f} ms old (+- "
            f"{lag.sigma_s * 1e3:.0f} ms) by comparison with the average power; edges are"
            " placed accordingly"
        ),
    )


def _in_phase(placed: Mapping[str, list[Placed]], edges_ns: Sequence[float]) -> bool:
    """Whether both edges are at the same place between every device's ticks."""
    for edges in placed.values():
        first, second = (
            float(np.interp(edge_ns, edge.middle_ns, np.arange(len(edge.middle_ns))))
            for edge, edge_ns in zip(edges, edges_ns, strict=True)
        )
        if abs((second - first + 0.5) % 1.0 - 0.5) > _SAME_PHASE:
            return False
    return True


def _doubt(
    chosen: Mapping[str, Knots],
    placed: Mapping[str, list[Placed]],
    possible_ns: Mapping[str, float],
    edges_ns: Sequence[float],
    half_j: float,
) -> Finding | None:
    """What irregular ticks would add, where the readings do not speak against them."""
    off_j2 = 0.0
    for name, knots in chosen.items():
        for edge, edge_ns in zip(placed[name], edges_ns, strict=True):
            nearest = int(np.argmin(np.abs(edge.middle_ns - edge_ns)))
            k = int(edge.index[nearest])
            # A tick is in its bracket however irregular the others are.
            bracket_ns = float(knots.high_ns[k] - knots.low_ns[k])
            before = max(k - 1, 0)
            span_ns = float(knots.middle_ns[before + 1] - knots.middle_ns[before])
            power_w = (knots.energy_j[before + 1] - knots.energy_j[before]) / max(span_ns, 1.0)
            off_j2 += float(power_w * min(possible_ns[name], bracket_ns)) ** 2
    off_j = float(np.sqrt(off_j2))
    if off_j < _DOUBT_RATIO * half_j:
        return None
    return Finding(
        code="ticks_uncertain",
        severity="info",
        message=(
            f"the readings do not tell whether the counter's ticks are up to"
            f" {max(possible_ns.values()) / 1e6:.3g} ms irregular; if they are, the joules are"
            f" known to +- {off_j:.3g} J, not to +- {half_j:.3g} J; announce the edges or"
            " measure for longer"
        ),
    )


def _too_short(window: Window) -> CoverageError:
    return CoverageError(
        f"the window {window.name!r} lasts {window.duration_s:.3f} s, of which no two ticks of"
        " the energy counter were seen",
        remedy="measure for longer; 5 s is a sensible minimum",
    )


def _near_w(power: PowerTrace | None, edge_ns: float) -> npt.NDArray[np.float64]:
    """Power readings of one device taken within a tick or two of an edge."""
    if power is None:
        return np.empty(0)
    near = np.abs(power.t_before_ns - edge_ns) < _NEAR_NS
    found: npt.NDArray[np.float64] = power.value[near & (power.status == ReadStatus.OK)]
    return found


def _off_ratio(power: PowerTrace | None, knots: Knots, edge_ns: float) -> float | None:
    """By what share power readings around an edge are above the counter's mean; None: unknown."""
    if power is None:
        return None
    at = np.flatnonzero(np.abs(knots.middle_ns - edge_ns) < _LONG_NS)
    if len(at) < 2:  # noqa: PLR2004 - a mean needs two ends
        return None
    first, last = at[0], at[-1]
    begin_ns, end_ns = float(knots.middle_ns[first]), float(knots.middle_ns[last])
    mean_w = float(knots.energy_j[last] - knots.energy_j[first]) / (end_ns - begin_ns) * 1e9
    good = (power.status == ReadStatus.OK) & (power.t_before_ns >= begin_ns)
    read_w = power.value[good & (power.t_before_ns < end_ns)]
    if not len(read_w) or mean_w <= 0:
        return None
    return float(read_w.mean()) / mean_w - 1


def _stretch(parts: Sequence[Knots], window: Window) -> Knots | None:
    """The first part that reaches into the window; what was measured up to the fault."""
    for knots in parts:
        inside = min(knots.high_ns[-1], window.end_ns) - max(knots.low_ns[0], window.start_ns)
        if inside > 0:
            return knots
    return None


def _late(channel: Channel, knots: Knots, window: Window) -> Finding:
    late_s = (knots.t_first_ns - window.start_ns) / 1e9
    return Finding(
        code="readings_begin_late",
        severity="invalid",
        message=(
            f"{channel.name}: the first good reading is {late_s:.3f} s into the window"
            f" {window.name!r}; the joules are those from there"
        ),
    )


def _cut(channel: Channel, knots: Knots, window: Window) -> Finding:
    at_s = (knots.t_last_ns - window.start_ns) / 1e9
    reasons = {
        "reset": ("counter_reset", "the energy counter was reset"),
        "lost": ("device_lost", "the device stopped answering"),
        "stall": ("counter_stalled", "the energy counter stopped moving"),
    }
    code, text = reasons[knots.fault] if knots.fault else ("readings_end", "the readings end")
    return Finding(
        code=code,
        severity="invalid",
        message=(
            f"{channel.name}: {text} {at_s:.3f} s into the window {window.name!r} of"
            f" {window.duration_s:.3f} s; the joules are those up to there"
        ),
    )
