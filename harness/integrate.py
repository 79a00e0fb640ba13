"""Joules of a window: counter difference between snapped edges, cross-checked by integrals."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .errors import CoverageError
from .joules.counter_energy import counter_energy_j
from .joules.trapezoid import PowerIntegral, integrate_power_j
from .record import Finding
from .timeline import Boundary, Channel, PowerKind, PowerTrace, Window

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


def one_reading_a_device(traces: Sequence[PowerTrace]) -> list[PowerTrace]:
    """Each device's energy counter, or its power where it has none; never an average."""
    counted = {trace.channel.device for trace in traces if trace.channel.quantity == "energy"}
    return [
        trace
        for trace in traces
        if trace.channel.quantity == "energy"
        or (trace.channel.device not in counted and trace.channel.sense != "average")
    ]


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
    refused: list[CoverageError] = []
    for boundary in boundaries:
        own = [trace for trace in traces if trace.channel.boundary == boundary]
        try:
            energies.append(_boundary_energy(boundary, own, window, max_gap_s))
        except CoverageError as error:
            refused.append(error)
    if not energies and refused:
        raise refused[0]
    if not energies:
        raise CoverageError(
            f"no power was recorded in the window {window.name!r}",
            remedy="start the sampler before the window and stop it after",
        )
    missing = tuple(
        Finding(code="boundary_not_covered", severity="warning", message=error.problem)
        for error in refused
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
        averages = {t.channel.device: t for t in traces if t.channel.sense == "average"}
        found = counter_energy_j(counters, powers, averages, window, findings)
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
