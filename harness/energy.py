"""The metrics that hold joules, of one window: refused where the metering does not support them."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Final

from .cost.formulas import energy_usd_per_mtok
from .errors import CoverageError
from .integrate import WindowEnergy, window_energies
from .metrics import card_of
from .record import Finding, MetricValue
from .timeline import PowerKind, Window

if TYPE_CHECKING:
    from .timeline import PowerTrace
    from .tokens import TokenTimes

_TRUST: Final[tuple[str, ...]] = typing.get_args(PowerKind)
_METERING: Final = "bounds of the metering alone (sensor step, tick, window edges)"


def energies_of(
    power: list[PowerTrace], window: Window, config: dict[str, Any], findings: list[Finding]
) -> tuple[list[WindowEnergy], bool]:
    """Energy of the window by boundary, and whether it was refused or forced."""
    if not power:
        findings.append(
            Finding(code="no_power", severity="warning", message="no power was recorded")
        )
        return [], True
    short = window.duration_s < config["refuse_below_s"]
    if short:
        what = "given all the same (window.force)" if config["force"] else "refused"
        findings.append(
            Finding(
                code="window_too_short_for_energy",
                severity="invalid",
                message=f"the window is {window.duration_s:.2f} s, below "
                f"{config['refuse_below_s']:g} s (window.refuse_below_s): its energy is {what}",
            )
        )
        if not config["force"]:
            return [], True
    try:
        return window_energies(power, window), short
    except CoverageError as error:
        findings.append(Finding(code="power_gap", severity="invalid", message=str(error)))
        return [], True


def energy_metrics(
    energy: WindowEnergy, tokens: TokenTimes, cost: dict[str, Any], findings: list[Finding]
) -> dict[str, MetricValue]:
    """Everything that follows from the joules of one boundary, on that boundary's own edges."""
    name = energy.boundary
    output = tokens.output_in(energy.window)
    total = output + tokens.input_in(energy.window)
    found = {
        f"{name}_energy_j": energy_value(f"{name}_energy_j", energy, 1.0, energy.samples),
        f"{name}_average_w": average_w(energy),
    }
    if output <= 0:
        findings.append(
            Finding(
                code="no_tokens_in_window",
                severity="warning",
                message="no output token was counted in the window, so nothing is per token",
            )
        )
        return found
    per_output = 1 / output
    usd = energy_usd_per_mtok(1.0, cost["usd_per_kwh"], pue=cost["pue"])
    n = round(output)
    key = f"{name}_j_per_output_token"
    found[key] = energy_value(key, energy, per_output, n)
    key = f"{name}_j_per_total_token"
    found[key] = energy_value(key, energy, 1 / total, round(total))
    if tokens.prefill_alone and (read := tokens.input_in(energy.window)):
        key = f"{name}_prefill_j_per_input_token"
        found[key] = energy_value(key, energy, 1 / read, read)
    key = f"{name}_energy_usd_per_mtok_output"
    found[key] = energy_value(key, energy, per_output * usd, n)
    if energy.low_j > 0:
        key = f"{name}_output_tok_per_s_per_mw_consumed"
        found[key] = _inverse(key, found[f"{name}_j_per_output_token"])
    return found


def _inverse(key: str, per_token: MetricValue) -> MetricValue:
    """Tokens a second per megawatt from joules per token: 1e6 / it, with the bounds swapped."""
    return MetricValue(
        value=1e6 / per_token.value,
        low=None if per_token.high is None else 1e6 / per_token.high,
        high=None if per_token.low is None else 1e6 / per_token.low,
        unit=card_of(key).unit,
        n=per_token.n,
        interval=per_token.interval,
    )


def idle_energies(
    power: list[PowerTrace], idle: Window, findings: list[Finding]
) -> list[WindowEnergy]:
    """Energy of the loaded, idle engine by boundary; empty, with a finding, if it has gaps."""
    if not power:
        return []
    try:
        return window_energies(power, idle)
    except CoverageError as error:
        message = f"power of the loaded, idle engine is not given: {error}"
        findings.append(Finding(code="idle_power_gap", severity="warning", message=message))
        return []


def window_row(window: Window, energies: list[WindowEnergy], *, valid: bool) -> dict[str, Any]:
    """One window as the record lists it."""
    invalid = any(f.severity == "invalid" for energy in energies for f in energy.findings)
    return {
        "name": window.name,
        "start_ns": window.start_ns,
        "end_ns": window.end_ns,
        "duration_s": window.duration_s,
        "energy_valid": valid and not invalid,
        "energies": [energy_row(energy) for energy in energies],
    }


def energy_row(energy: WindowEnergy) -> dict[str, Any]:
    """One boundary's energy as the record lists it."""
    return {
        "boundary": energy.boundary,
        "power_kind": energy.power_kind,
        "devices": list(energy.devices),
        "start_ns": energy.window.start_ns,
        "end_ns": energy.window.end_ns,
        "duration_s": energy.window.duration_s,
        "energy_j": energy.energy_j,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "average_w": energy.average_w,
        "method": energy.method,
        "cross_checks_j": dict(energy.cross_checks),
        "disagreement_ratio": energy.disagreement_ratio,
        "samples": energy.samples,
    }


def provisioned(
    metrics: dict[str, MetricValue], cost: dict[str, Any], findings: list[Finding]
) -> None:
    """Throughput per provisioned megawatt, if the configuration says what was provisioned."""
    throughput = metrics.get("output_throughput_tok_per_s")
    watts = cost["provisioned_w"]
    if watts is None:
        findings.append(
            Finding(
                code="provisioned_power_unknown",
                severity="info",
                message="throughput per provisioned megawatt is not given: set "
                "cost.provisioned_w to the all-in watts reserved for what runs the engine",
            )
        )
    elif throughput is not None:
        key = "output_tok_per_s_per_mw_provisioned"
        value = throughput.value / (watts * cost["pue"]) * 1e6
        metrics[key] = MetricValue(value=value, unit=card_of(key).unit, n=throughput.n)


def power_kind(power: list[PowerTrace]) -> str | None:
    """The least trusted kind among the channels; None without power."""
    kinds = {trace.channel.power_kind for trace in power}
    return max(kinds, key=_TRUST.index) if kinds else None


def average_w(energy: WindowEnergy, key: str | None = None) -> MetricValue:
    """Mean power of one window at one boundary, in watts; *key* names its card, if another."""
    key = key or f"{energy.boundary}_average_w"
    return energy_value(key, energy, 1 / energy.window.duration_s, energy.samples)


def energy_value(key: str, energy: WindowEnergy, factor: float, n: int) -> MetricValue:
    """
    A number proportional to the energy, with bounds scaled alike.

    A modelled number has none: what the model gets wrong is not known, and the
    bounds of its arithmetic would pass for an error.
    """
    bounded = energy.power_kind != "modelled"
    return MetricValue(
        value=energy.energy_j * factor,
        low=energy.low_j * factor if bounded else None,
        high=energy.high_j * factor if bounded else None,
        unit=card_of(key).unit,
        n=n,
        interval=_METERING if bounded else None,
    )
