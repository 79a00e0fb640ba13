"""Joules of prefill and of decode where each has devices of its own: counted, not estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .energy import average_w, energy_value
from .errors import CoverageError
from .integrate import WindowEnergy, window_energies
from .record import Finding, MetricValue

if TYPE_CHECKING:
    import pandas as pd

    from .timeline import PowerTrace, Window
    from .tokens import TokenTimes

ROLES: Final = ("prefill", "decode")
_BOUNDARIES: Final = ("gpu", "gpu_module")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEnergy:
    """
    What the devices of one role drew.

    Args:
        role: `prefill` or `decode`.
        energy: of its devices alone, at one boundary.
    """

    role: str
    energy: WindowEnergy


def devices_by_role(
    provenance: Mapping[str, Any], findings: list[Finding]
) -> dict[str, tuple[str, ...]]:
    """
    The metered devices of each role.

    Args:
        provenance: the engine's `gpus_by_role` (indices), and the index that each
            power source says a device has.
        findings: gets why there is no split, where prefill and decode are apart.

    Returns:
        `prefill` and `decode` → devices; empty where one server does both, or
        where it is not known which device is which.
    """
    roles = provenance.get("engine", {}).get("gpus_by_role") or {}
    if not all(roles.get(role) for role in ROLES) or set(roles["prefill"]) & set(roles["decode"]):
        return {}
    device_of = {
        int(facts["index"]): device
        for source in provenance.get("power", {}).get("at_start", {}).values()
        for device, facts in source.get("gpus", {}).items()
        if facts.get("index") is not None
    }
    missing = sorted({index for role in ROLES for index in roles[role]} - device_of.keys())
    if missing:
        findings.append(
            Finding(
                code="roles_not_metered",
                severity="warning",
                message="joules are not split into prefill's and decode's: no power source says "
                f"which device is GPU {', '.join(map(str, missing))}; `nvml` does",
            )
        )
        return {}
    return {role: tuple(device_of[index] for index in roles[role]) for role in ROLES}


def role_energies(
    power: Sequence[PowerTrace],
    whole: Sequence[WindowEnergy],
    devices: Mapping[str, tuple[str, ...]],
    findings: list[Finding],
) -> list[RoleEnergy]:
    """
    The energy of each role's devices, as near the edges of the whole as their counters tick.

    Args:
        power: all channels of the run.
        whole: of all devices together, one a boundary.
        devices: as `devices_by_role` found them.
        findings: gets what stands in the way.
    """
    found = []
    for total in whole:
        if total.boundary not in _BOUNDARIES:
            continue
        # Found edges, so that no burst is looked for at them.
        window = dataclasses.replace(total.window, planned=False)
        for role, own in devices.items():
            traces = [
                trace
                for trace in power
                if trace.channel.boundary == total.boundary and trace.channel.device in own
            ]
            energy = _energy(traces, window, role, findings)
            if energy is not None:
                found.append(RoleEnergy(role=role, energy=energy))
        left = sorted(set(total.devices) - {device for own in devices.values() for device in own})
        if left and devices:
            findings.append(
                Finding(
                    code="device_without_role",
                    severity="warning",
                    message=f"{total.boundary}: {', '.join(left)} belongs neither to prefill nor "
                    "to decode: its joules are in the total alone",
                )
            )
    return found


def _energy(
    traces: list[PowerTrace], window: Window, role: str, findings: list[Finding]
) -> WindowEnergy | None:
    try:
        (energy,) = window_energies(traces, window)
    except CoverageError as error:
        message = f"the energy of the {role} devices is not given: {error.problem}"
        findings.append(Finding(code="role_power_gap", severity="warning", message=message))
        return None
    return energy


def role_metrics(
    energies: Sequence[RoleEnergy],
    tokens: TokenTimes,
    requests: pd.DataFrame,
    findings: list[Finding],
) -> dict[str, MetricValue]:
    """
    Joules, watts and joules per token of each role, on that role's own edges.

    Args:
        energies: of the roles.
        tokens: of the measured phase.
        requests: their rows, which tell cached input.
        findings: gets why a number is missing.
    """
    found: dict[str, MetricValue] = {}
    for role, energy in ((each.role, each.energy) for each in energies):
        stem = f"{energy.boundary}_{role}"
        found[f"{stem}_energy_j"] = energy_value(f"{stem}_energy_j", energy, 1.0, energy.samples)
        found[f"{stem}_average_w"] = average_w(energy, f"{stem}_average_w")
        if role == "decode":
            output = tokens.output_in(energy.window)
            denominators: dict[str, float | None] = {f"{stem}_j_per_output_token": output}
        else:
            denominators = {
                f"{stem}_j_per_input_token": tokens.input_in(energy.window),
                f"{stem}_j_per_computed_token": _computed(requests, energy.window, findings),
            }
        for key, count in denominators.items():
            if count:
                found[key] = energy_value(key, energy, 1 / count, round(count))
    return found


def _computed(requests: pd.DataFrame, window: Window, findings: list[Finding]) -> int | None:
    """Input tokens run through the model, of requests whose first output came in the window."""
    started = requests.dropna(subset=["t_first_ns", "isl_tokens"])
    first = started["t_first_ns"]
    inside = started[((first >= window.start_ns) & (first < window.end_ns)).fillna(value=False)]
    if inside["cached_tokens"].isna().any():
        findings.append(
            Finding(
                code="cached_input_unknown",
                severity="info",
                message="joules per computed input token are not given: the server did not say of "
                "every request how much of its input came from a cache",
            )
        )
        return None
    return int((inside["isl_tokens"] - inside["cached_tokens"]).sum())
