"""From what a run recorded to its record: pure arithmetic, the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from .cost import energy_usd_per_mtok
from .errors import CoverageError
from .integrate import WindowEnergy, traces, window_energies
from .latency import chunk_gaps_s, request_latencies, summarise
from .metrics import card_of
from .record import Finding, MetricValue, RunRecord
from .timeline import EventKind, Window
from .tokens import TokenTimes, token_times
from .window import Found, run_window, steady_window

if TYPE_CHECKING:
    import pandas as pd

    from .store import RawRun
    from .timeline import PowerTrace

_OPEN_LOOP_ONLY: Final = ("ttft_from_due_s", "e2e_from_due_s")
_TRUST: Final = ("measured", "modelled", "emulated")
_METERING: Final = "bounds of the metering alone (sensor step, tick, window edges)"


def analyse(raw: RawRun) -> RunRecord:
    """
    The record of a run, complete or cut short.

    Args:
        raw: what the run folder holds.

    Returns:
        The record; every number is computed from *raw*, none is carried over.
    """
    config = raw.manifest["config"]
    measured = raw.requests[raw.requests["phase"] == "measure"]
    events = _measured_events(raw)
    tokens = token_times(events, measured)
    findings = [Finding(**mark["finding"]) for mark in raw.marks if mark["mark"] == "finding"]
    findings += tokens.findings
    if not raw.complete:
        findings.append(_incomplete(raw))
    found = _window(config["window"], events, measured, tokens)
    findings += found.findings

    metrics: dict[str, MetricValue] = {}
    windows: list[dict[str, Any]] = []
    power = traces(raw.power_header, raw.power)
    if found.window is not None:
        window = found.window
        metrics |= _throughput(window, measured, tokens)
        metrics |= _latencies(window, measured, events, config["load"]["pattern"])
        energies, why = _energies(power, window, config["window"], findings)
        windows.append(_window_row(window, energies, valid=not why and bool(energies)))
        for energy in energies:
            findings += energy.findings
            metrics |= _energy_metrics(energy, tokens, config["cost"], findings)
        _provisioned(metrics, config["cost"], findings)
    for idle in _idle_windows(raw):
        energies = _idle_energies(power, idle, findings)
        windows.append(_window_row(idle, energies, valid=bool(energies)))
        for energy in energies:
            metrics[f"{energy.boundary}_loaded_idle_w"] = _average_w(energy)

    counts, disagreements = _token_counts(raw, measured, events)
    return RunRecord(
        run_id=raw.manifest["run_id"],
        status="complete" if raw.complete else "incomplete",
        power_kind=_power_kind(power),
        config=config,
        provenance=_provenance(raw),
        tokens=counts,
        windows=windows,
        metrics=dict(sorted(metrics.items())),
        findings=[*findings, *disagreements, *_request_findings(measured)],
    )


def _measured_events(raw: RawRun) -> npt.NDArray[Any]:
    """Events since the measured phase began; a request without a row is told by its time."""
    warmup = raw.requests.loc[raw.requests["phase"] == "warmup", "request"].to_numpy(np.int64)
    starts = [mark["t_ns"] for mark in raw.marks if mark["mark"] == "measure_start"]
    if not starts:
        return raw.events[:0]
    late = raw.events["t_ns"] >= starts[0]
    return raw.events[late & ~np.isin(raw.events["request"], warmup)]


def _window(
    config: dict[str, Any],
    events: npt.NDArray[Any],
    requests: pd.DataFrame,
    tokens: TokenTimes,
) -> Found:
    if config["kind"] == "run":
        return run_window(events)
    return steady_window(events, requests, tokens, min_s=config["min_s"])


def _throughput(
    window: Window, requests: pd.DataFrame, tokens: TokenTimes
) -> dict[str, MetricValue]:
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
        key: _plain(key, amount / window.duration_s, n)
        for key, (amount, n) in rates.items()
        if amount > 0
    }


def _latencies(
    window: Window, requests: pd.DataFrame, events: npt.NDArray[Any], pattern: str
) -> dict[str, MetricValue]:
    """Of requests sent inside the window; which end after it, under nearly the same load."""
    sent = requests["t_sent_ns"]
    inside = requests[((sent >= window.start_ns) & (sent < window.end_ns)).fillna(value=False)]
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


def _energies(
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


def _energy_metrics(
    energy: WindowEnergy, tokens: TokenTimes, cost: dict[str, Any], findings: list[Finding]
) -> dict[str, MetricValue]:
    """Everything that follows from the joules of one boundary, on that boundary's own edges."""
    name = energy.boundary
    output = tokens.output_in(energy.window)
    total = output + tokens.input_in(energy.window)
    found = {
        f"{name}_energy_j": _of_energy(f"{name}_energy_j", energy, 1.0, energy.samples),
        f"{name}_average_w": _average_w(energy),
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
    found[key] = _of_energy(key, energy, per_output, n)
    key = f"{name}_j_per_total_token"
    found[key] = _of_energy(key, energy, 1 / total, round(total))
    key = f"{name}_energy_usd_per_mtok_output"
    found[key] = _of_energy(key, energy, per_output * usd, n)
    if energy.low_j > 0:
        key = f"{name}_output_tok_per_s_per_mw_consumed"
        found[key] = MetricValue(
            value=1e6 * output / energy.energy_j,
            low=1e6 * output / energy.high_j,
            high=1e6 * output / energy.low_j,
            unit=card_of(key).unit,
            n=n,
            interval=_METERING,
        )
    return found


def _provisioned(
    metrics: dict[str, MetricValue], cost: dict[str, Any], findings: list[Finding]
) -> None:
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
        metrics[key] = _plain(key, value, throughput.n)


def _idle_windows(raw: RawRun) -> list[Window]:
    """The stretch in which the loaded engine was left alone, if both its edges were marked."""
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    start, end = edges.get("loaded_idle_start"), edges.get("loaded_idle_end")
    if start is None or end is None or end <= start:
        return []
    return [Window(name="loaded_idle", start_ns=start, end_ns=end, planned=True)]


def _idle_energies(
    power: list[PowerTrace], idle: Window, findings: list[Finding]
) -> list[WindowEnergy]:
    if not power:
        return []
    try:
        return window_energies(power, idle)
    except CoverageError as error:
        message = f"power of the loaded, idle engine is not given: {error}"
        findings.append(Finding(code="idle_power_gap", severity="warning", message=message))
        return []


def _window_row(window: Window, energies: list[WindowEnergy], *, valid: bool) -> dict[str, Any]:
    invalid = any(f.severity == "invalid" for energy in energies for f in energy.findings)
    return {
        "name": window.name,
        "start_ns": window.start_ns,
        "end_ns": window.end_ns,
        "duration_s": window.duration_s,
        "energy_valid": valid and not invalid,
        "energies": [
            {
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
            for energy in energies
        ],
    }


def _token_counts(
    raw: RawRun, requests: pd.DataFrame, events: npt.NDArray[Any]
) -> tuple[dict[str, Any], list[Finding]]:
    """Output tokens of the measured phase three ways, and a finding where they differ."""
    usage = requests["osl_tokens"].dropna()
    stream = requests["stream_tokens"].dropna()
    readings = {mark["when"]: mark for mark in raw.marks if mark["mark"] == "token_counters"}
    counted = None
    if {"before", "after"} <= readings.keys():
        counted = readings["after"]["generated"] - readings["before"]["generated"]
    counts = {
        "usage": int(usage.sum()) if len(usage) else None,
        "stream": int(stream.sum()) if len(stream) else None,
        "server_counter": int(counted) if counted is not None else None,
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


def _request_findings(requests: pd.DataFrame) -> list[Finding]:
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


def _incomplete(raw: RawRun) -> Finding:
    reasons = [mark["reason"] for mark in raw.marks if mark["mark"] == "interrupted"]
    reason = reasons[-1] if reasons else "the harness was killed"
    return Finding(
        code="incomplete",
        severity="invalid",
        message=f"the run was cut short ({reason}): the numbers are of what was recorded",
    )


def _provenance(raw: RawRun) -> dict[str, Any]:
    """What was known at the start, and what each part said of itself at its end."""
    found = dict(raw.manifest["provenance"])
    for mark in raw.marks:
        if mark["mark"] == "provenance":
            found[mark["about"]] = mark["facts"]
    return found


def _power_kind(power: list[PowerTrace]) -> str | None:
    kinds = {trace.channel.power_kind for trace in power}
    return max(kinds, key=_TRUST.index) if kinds else None


def _average_w(energy: WindowEnergy) -> MetricValue:
    key = f"{energy.boundary}_average_w"
    return _of_energy(key, energy, 1 / energy.window.duration_s, energy.samples)


def _of_energy(key: str, energy: WindowEnergy, factor: float, n: int) -> MetricValue:
    return MetricValue(
        value=energy.energy_j * factor,
        low=energy.low_j * factor,
        high=energy.high_j * factor,
        unit=card_of(key).unit,
        n=n,
        interval=_METERING,
    )


def _plain(key: str, value: float, n: int) -> MetricValue:
    return MetricValue(value=value, low=None, high=None, unit=card_of(key).unit, n=n)
