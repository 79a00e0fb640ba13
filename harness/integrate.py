"""Joules of a window: counter difference between snapped edges, cross-checked by integrals."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .counter import Knots, stretches
from .edges import DRAWS, UNSEEN_RATIO, energy_j, place, snap
from .errors import CoverageError
from .record import Finding
from .timeline import Boundary, Channel, PowerKind, PowerTrace, ReadStatus, Window
from .trapezoid import PowerIntegral, integrate_power_j

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

DISAGREEMENT_LIMIT_RATIO: Final = 0.03
"""Above this the methods contradict each other, and the window carries a warning."""

_METHODS: Final = {"instant": "instant power", "mean": "mean power", "average": "average power"}
_QUANTILES: Final = (0.015, 0.985)
_SEED: Final = 20_261_123
"""Fixed, so that recomputing a run gives the same interval to the last digit."""
_NEAR_NS: Final = 150_000_000
_EDGE_SLACK_NS: Final = 200_000_000
"""An edge this close to the readings is reached by the next tick or the one before."""
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
        powers = {t.channel.device: t for t in traces if t.channel.sense == "instant"}
        found = _by_counters(counters, powers, window, findings)
        method, window, total_j, low_j, high_j, samples = "counter", *found
    else:
        method = ""
        total_j = low_j = high_j = 0.0
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
        total_j, samples = primary.energy_j, primary.samples
        low_j, high_j = total_j - primary.half_width_j, total_j + primary.half_width_j
    elif problems:
        findings.append(Finding(code="cross_check_missing", severity="info", message=problems[0]))
    gaps = {name: abs(check.energy_j - total_j) for name, check in checks.items()}
    disagreement = max(gaps.values()) / total_j if gaps and total_j > 0 else None
    if disagreement is not None and disagreement > DISAGREEMENT_LIMIT_RATIO:
        findings.append(_disagreement(boundary, method, total_j, checks, disagreement))
    return WindowEnergy(
        boundary=boundary,
        power_kind=kind,
        devices=devices,
        window=window,
        energy_j=total_j,
        low_j=low_j,
        high_j=high_j,
        average_w=total_j / window.duration_s,
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
    # Sampling a power that changes leaves an error of its own; beyond it, somebody is wrong.
    explained = all(
        abs(check.energy_j - energy_j) <= check.half_width_j for check in checks.values()
    )
    return Finding(
        code="methods_disagree",
        severity="info" if explained else "warning",
        message=(
            f"{boundary}: {method} says {energy_j:.6g} J, {others}: up to {ratio:.1%} apart,"
            f" the limit is {DISAGREEMENT_LIMIT_RATIO:.0%}"
            + (
                "; readings this far apart of a power this uneven explain it, a longer window"
                " averages it out"
                if explained
                else "; sampling error does not explain it, do not trust either to better than that"
            )
        ),
    )


def _by_counters(
    counters: Mapping[str, PowerTrace],
    powers: Mapping[str, PowerTrace],
    window: Window,
    findings: list[Finding],
) -> tuple[Window, float, float, float, int]:
    """The snapped window, its joules, their interval, and the readings inside."""
    chosen: dict[str, Knots] = {}
    start_ns, end_ns = float(window.start_ns), float(window.end_ns)
    for device, trace in counters.items():
        knots = _stretch(stretches(trace), window)
        if knots is None:
            raise CoverageError(
                f"{trace.channel.name} did not move in the window {window.name!r}",
                remedy="start the sampler before the window and stop it after",
            )
        chosen[device] = knots
        first_ns, last_ns = float(knots.low_ns[0]), float(knots.high_ns[-1])
        if knots.t_first_ns > window.start_ns + _EDGE_SLACK_NS:
            findings.append(_late(trace.channel, knots, window))
        if knots.t_last_ns < window.end_ns - _EDGE_SLACK_NS:
            findings.append(_cut(trace.channel, knots, window))
        start_ns, end_ns = max(start_ns, first_ns), min(end_ns, last_ns)
    if end_ns <= start_ns:
        raise _too_short(window)
    random = np.random.default_rng(_SEED)
    placed = {name: place(knots, (start_ns, end_ns), random)[0] for name, knots in chosen.items()}
    snapped_ns = [
        snap(
            [(chosen[name], edges[side]) for name, edges in placed.items()],
            asked_ns,
            planned=window.planned,
        )
        for side, asked_ns in enumerate((start_ns, end_ns))
    ]
    if snapped_ns[1] <= snapped_ns[0]:
        raise _too_short(window)
    total_j, drawn_j, samples = 0.0, np.zeros(DRAWS), 0
    for name, edges in placed.items():
        unseen = random.choice([-UNSEEN_RATIO, UNSEEN_RATIO], size=DRAWS)
        for side, sign in ((0, -1.0), (1, 1.0)):
            near_w = _near_w(powers.get(name), snapped_ns[side])
            best_j, draws_j = energy_j(edges[side], snapped_ns[side], near_w, unseen, random)
            total_j += sign * best_j
            drawn_j += sign * draws_j
            # The counter shows whole quanta, rounded down.
            drawn_j += sign * random.uniform(0, counters[name].channel.quantum or 0.0, DRAWS)
        t_ns = counters[name].t_before_ns
        samples += int(np.count_nonzero((t_ns >= snapped_ns[0]) & (t_ns <= snapped_ns[1])))
    low_j, high_j = np.quantile(drawn_j, _QUANTILES)
    gain = max(trace.channel.gain_ratio or 0.0 for trace in counters.values())
    return (
        dataclasses.replace(window, start_ns=round(snapped_ns[0]), end_ns=round(snapped_ns[1])),
        total_j,
        min(float(low_j), total_j) - gain * total_j,
        max(float(high_j), total_j) + gain * total_j,
        samples,
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
