"""Joules of a window: counter difference between snapped edges, cross-checked by integrals."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .errors import CoverageError
from .lattice import Knots, stretches
from .record import Finding
from .timeline import Boundary, Channel, PowerKind, PowerTrace, Window
from .trapezoid import PowerIntegral, integrate_power_j

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

DISAGREEMENT_LIMIT_RATIO: Final = 0.03
"""Above this the methods contradict each other, and the window carries a warning."""

_METHODS: Final = {"instant": "instant power", "mean": "mean power", "average": "average power"}
_TRUST: Final[tuple[PowerKind, ...]] = ("measured", "modelled", "emulated")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowEnergy:
    """
    Joules of one boundary, summed over its devices, over one common window.

    Args:
        boundary: what drew them.
        power_kind: the least trusted kind among the channels used.
        devices: whose joules are in the sum.
        window: after snapping; shorter than asked where a fault ended it.
        energy_j: joules in *window*.
        low_j: lower end of what is known.
        high_j: upper end.
        average_w: energy_j over the window's duration.
        method: `counter`, `mean power`, `instant power` or `average power`.
        cross_checks: other methods' joules on the same edges.
        disagreement_ratio: the largest deviation of a cross-check from energy_j,
            as a share of it; None: there was none to compare.
        samples: readings of the method's channels inside the window.
        findings: gaps, resets, stalls, lost devices, disagreement.
    """

    boundary: Boundary
    power_kind: PowerKind
    devices: tuple[str, ...]
    window: Window
    energy_j: float
    low_j: float
    high_j: float
    average_w: float
    method: str
    cross_checks: Mapping[str, float]
    disagreement_ratio: float | None
    samples: int
    findings: tuple[Finding, ...]


def traces(header: Mapping[str, Any], records: npt.NDArray[Any]) -> list[PowerTrace]:
    """
    A journal's readings, sorted by channel.

    Args:
        header: the journal's; `channels` is a list of Channel's fields.
        records: POWER_DTYPE rows, in the order they were written.
    """
    found = []
    for number, fields in enumerate(header["channels"]):
        rows = records[records["channel"] == number]
        found.append(
            PowerTrace(
                channel=Channel(**fields),
                t_before_ns=rows["t_before_ns"].astype(np.int64),
                t_after_ns=rows["t_after_ns"].astype(np.int64),
                value=rows["value"].astype(np.float64),
                status=rows["status"].astype(np.uint16),
            )
        )
    return found


def window_energies(
    traces: Sequence[PowerTrace], window: Window, *, max_gap_s: float = 0.5
) -> list[WindowEnergy]:
    """
    What each boundary drew in *window*.

    Boundaries are never added to each other: a node's or a chassis' watts contain
    those of its parts.

    Args:
        traces: all channels of the run.
        window: as asked; edges are moved to counter ticks.
        max_gap_s: the longest silence to integrate power across.

    Returns:
        One a boundary that covers at least part of the window.

    Raises:
        CoverageError: no channel covers any of it.
    """
    boundaries = list(dict.fromkeys(trace.channel.boundary for trace in traces))
    energies: list[WindowEnergy] = []
    refused: list[str] = []
    for boundary in boundaries:
        own = [trace for trace in traces if trace.channel.boundary == boundary]
        try:
            energies.append(_boundary_energy(boundary, own, window, max_gap_s))
        except CoverageError as error:
            refused.append(error.problem)
    if not energies:
        raise CoverageError(
            f"no power was recorded in the window {window.name!r}"
            + (f" ({refused[0]})" if refused else ""),
            remedy="start the sampler before the window and stop it after",
        )
    missing = tuple(
        Finding(code="boundary_not_covered", severity="warning", message=text) for text in refused
    )
    first = dataclasses.replace(energies[0], findings=energies[0].findings + missing)
    return [first, *energies[1:]]


def _boundary_energy(
    boundary: Boundary, traces: Sequence[PowerTrace], window: Window, max_gap_s: float
) -> WindowEnergy:
    devices = tuple(dict.fromkeys(trace.channel.device for trace in traces))
    counters = {t.channel.device: t for t in traces if t.channel.quantity == "energy"}
    kind = max((trace.channel.power_kind for trace in traces), key=_TRUST.index)
    findings: list[Finding] = []
    if set(counters) == set(devices):
        found = _by_counters(counters, window, findings)
        method, window, energy_j, half_j, samples = "counter", *found
    else:
        method = ""
        energy_j = half_j = 0.0
        samples = 0
    checks: dict[str, PowerIntegral] = {}
    problems: list[str] = []
    for sense in ("instant", "mean", "average"):
        chosen = {t.channel.device: t for t in traces if t.channel.sense == sense}
        if set(chosen) != set(devices):
            continue
        try:
            parts = [integrate_power_j(t, window, max_gap_s=max_gap_s) for t in chosen.values()]
        except CoverageError as error:
            problems.append(error.problem)
            continue
        checks[_METHODS[sense]] = PowerIntegral(
            energy_j=sum(part.energy_j for part in parts),
            half_width_j=sum(part.half_width_j for part in parts),
            samples=sum(part.samples for part in parts),
            longest_gap_s=max(part.longest_gap_s for part in parts),
        )
    if not method:
        if not checks:
            raise CoverageError(
                problems[0] if problems else f"{boundary} has no complete set of channels",
                remedy="look at the findings of the sampler",
            )
        method = next(iter(checks))
        primary = checks.pop(method)
        energy_j, half_j, samples = primary.energy_j, primary.half_width_j, primary.samples
    elif problems:
        findings.append(
            Finding(code="cross_check_missing", severity="warning", message=problems[0])
        )
    gaps = {name: abs(check.energy_j - energy_j) for name, check in checks.items()}
    disagreement = max(gaps.values()) / energy_j if gaps and energy_j > 0 else None
    if disagreement is not None and disagreement > DISAGREEMENT_LIMIT_RATIO:
        findings.append(_disagreement(boundary, method, energy_j, checks, disagreement))
    return WindowEnergy(
        boundary=boundary,
        power_kind=kind,
        devices=devices,
        window=window,
        energy_j=energy_j,
        low_j=energy_j - half_j,
        high_j=energy_j + half_j,
        average_w=energy_j / window.duration_s,
        method=method,
        cross_checks={name: check.energy_j for name, check in checks.items()},
        disagreement_ratio=disagreement,
        samples=samples,
        findings=tuple(findings),
    )


def _disagreement(
    boundary: str,
    method: str,
    energy_j: float,
    checks: Mapping[str, PowerIntegral],
    ratio: float,
) -> Finding:
    others = ", ".join(f"{name} {check.energy_j:.6g} J" for name, check in checks.items())
    return Finding(
        code="methods_disagree",
        severity="warning",
        message=(
            f"{boundary}: {method} says {energy_j:.6g} J, {others}: up to {ratio:.1%} apart, "
            f"the limit is {DISAGREEMENT_LIMIT_RATIO:.0%}; measure for longer"
        ),
    )


def _by_counters(
    counters: Mapping[str, PowerTrace], window: Window, findings: list[Finding]
) -> tuple[Window, float, float, int]:
    """The snapped window, its joules, their half-width, and the readings inside."""
    chosen: dict[str, Knots] = {}
    end_ns = float(window.end_ns)
    for device, trace in counters.items():
        knots = _stretch(stretches(trace), window)
        if knots is None:
            raise CoverageError(
                f"{trace.channel.name} was not read in the window {window.name!r}",
                remedy="start the sampler before the window and stop it after",
            )
        chosen[device] = knots
        if knots.t_ns[-1] + knots.slack_ns[-1] < window.end_ns and (
            knots.fault or knots.t_alive_ns < window.end_ns
        ):
            end_ns = min(end_ns, float(knots.t_ns[-1]))
            findings.append(_cut(trace.channel, knots, window))
        if knots.t_ns[0] - knots.slack_ns[0] > window.end_ns:
            findings.append(_cut(trace.channel, knots, window))
    start_ns = _edge(chosen.values(), window.start_ns, planned=window.planned)
    end_ns = _edge(chosen.values(), end_ns, planned=window.planned)
    if end_ns <= start_ns:
        raise CoverageError(
            f"the window {window.name!r} lasts {window.duration_s:.3f} s, less than a tick"
            " of the energy counter",
            remedy="measure for longer; 5 s is a sensible minimum",
        )
    snapped = dataclasses.replace(window, start_ns=round(start_ns), end_ns=round(end_ns))
    energy_j = half_j = 0.0
    samples = 0
    for device, knots in chosen.items():
        first_j, last_j = np.interp([start_ns, end_ns], knots.t_ns, knots.energy_j)
        energy_j += float(last_j - first_j)
        half_j += _edge_half_j(knots, start_ns) + _edge_half_j(knots, end_ns)
        half_j += counters[device].channel.quantum or 0.0
        t_ns = counters[device].t_before_ns
        samples += int(np.count_nonzero((t_ns >= start_ns) & (t_ns <= end_ns)))
    return snapped, energy_j, half_j, samples


def _stretch(parts: Sequence[Knots], window: Window) -> Knots | None:
    """The first part that reaches into the window; what was measured up to the fault."""
    for knots in parts:
        inside = min(knots.t_ns[-1], window.end_ns) - max(knots.t_ns[0], window.start_ns)
        if inside > 0:
            return knots
    return None


def _edge(all_knots: Any, asked_ns: float, *, planned: bool) -> float:  # noqa: ANN401
    """The common edge nearest to what was asked: a tick, the middle one of several devices'."""
    ticks = []
    for knots in all_knots:
        if not knots.ticks:
            # Known at any instant within the readings.
            ticks.append(min(max(asked_ns, float(knots.t_ns[0])), float(knots.t_ns[-1])))
            continue
        # A burst reads on until the tick after the edge, so that one is known best.
        after = knots.t_ns + knots.slack_ns >= asked_ns
        if planned and np.any(after):
            ticks.append(float(knots.t_ns[int(np.argmax(after))]))
        else:
            ticks.append(float(knots.t_ns[int(np.argmin(np.abs(knots.t_ns - asked_ns)))]))
    return statistics.median_low(ticks)


def _edge_half_j(knots: Knots, edge_ns: float) -> float:
    """How far the interpolated energy at an edge may be from the truth."""
    right = int(np.clip(np.searchsorted(knots.t_ns, edge_ns), 1, len(knots.t_ns) - 1))
    left = right - 1
    near = slice(max(left - 1, 0), right + 2)
    slopes_w = np.diff(knots.energy_j[near]) / np.diff(knots.t_ns[near]) * 1e9
    nearest = left if edge_ns - knots.t_ns[left] < knots.t_ns[right] - edge_ns else right
    timing_j = float(np.max(slopes_w)) * float(knots.slack_ns[nearest]) / 1e9
    span_s = float(knots.t_ns[right] - knots.t_ns[left]) / 1e9
    part = min(max((edge_ns - knots.t_ns[left]) / (knots.t_ns[right] - knots.t_ns[left]), 0), 1)
    return float(timing_j + np.ptp(slopes_w) * span_s * part * (1 - part))


def _cut(channel: Channel, knots: Knots, window: Window) -> Finding:
    at_s = (knots.t_ns[-1] - window.start_ns) / 1e9
    reasons = {
        "reset": ("counter_reset", "the energy counter was reset"),
        "lost": ("device_lost", "the device stopped answering"),
        "stall": ("counter_stalled", "the energy counter stopped moving"),
        None: ("readings_end", "the readings end"),
    }
    code, text = reasons[knots.fault]
    return Finding(
        code=code,
        severity="invalid",
        message=(
            f"{channel.name}: {text} {at_s:.3f} s into the window {window.name!r} of"
            f" {window.duration_s:.3f} s; the joules are those up to there"
        ),
    )
