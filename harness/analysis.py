"""From what a run recorded to its record: pure arithmetic, the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .cached_input import cached_findings
from .conditions import conditions
from .decompose import split
from .energy import (
    average_w,
    energies_of,
    energy_metrics,
    energy_row,
    idle_energies,
    power_kind,
    provisioned,
    window_row,
)
from .engine_joules import cross_check
from .integrate import one_reading_a_device, traces
from .load.audit import LoadAudit
from .load.findings import audit_findings
from .performance import absences, latencies, request_findings, throughput, token_counts
from .phases.estimate import Split
from .record import Finding, MetricValue, RunRecord
from .roles import devices_by_role, role_energies, role_metrics
from .silence_power import told_by_power
from .streams_in_step import in_step_findings
from .timeline import Window
from .tokens import TokenTimes, token_times
from .window import Found, run_window, silence_findings, silent_ns, steady_window
from .window_variants import ml_energy_window

if TYPE_CHECKING:
    import pandas as pd

    from .store import RawRun


def analyse(raw: RawRun) -> RunRecord:
    """
    The record of a run, complete or cut short.

    Args:
        raw: what the run folder holds.

    Returns:
        The record; every number is computed from *raw*, none is carried over.
    """
    config, provenance = raw.manifest["config"], _provenance(raw)
    measured = raw.requests[raw.requests["phase"] == "measure"]
    events = _measured_events(raw)
    tokens = token_times(events, measured)
    findings = [Finding(**mark["finding"]) for mark in raw.marks if mark["mark"] == "finding"]
    findings += tokens.findings
    if not raw.complete:
        findings.append(_incomplete(raw))
    found = _window(config, events, measured, tokens)
    findings += found.findings

    metrics: dict[str, MetricValue] = {}
    windows: list[dict[str, Any]] = []
    power = traces(raw.power_header, raw.power) if raw.power_header else []
    if found.window is not None:
        window = found.window
        metrics |= throughput(window, measured, tokens, findings)
        metrics |= latencies(window, measured, events, config["load"]["pattern"])
        findings += absences(metrics, measured)
        findings += in_step_findings(window, measured, config["load"])
        energies, why = energies_of(power, window, config["window"], findings)
        windows.append(window_row(window, energies, valid=not why and bool(energies)))
        for energy in energies:
            findings += energy.findings
            metrics |= energy_metrics(energy, tokens, config["cost"], findings)
        roles = devices_by_role(provenance, findings) if energies else {}
        if apart := role_energies(power, energies, roles, findings):
            metrics |= role_metrics(apart, tokens, measured, findings)
            windows[-1]["roles"] = [
                {"role": each.role, **energy_row(each.energy)} for each in apart
            ]
        provisioned(metrics, config["cost"], findings)
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    findings += cross_check(provenance.get("engine_energy"), power, edges)
    for idle in _idle_windows(raw):
        energies = idle_energies(power, idle, findings)
        windows.append(window_row(idle, energies, valid=bool(energies)))
        for energy in energies:
            metrics[f"{energy.boundary}_loaded_idle_w"] = average_w(energy)

    if found.window is not None:
        silent = silent_ns(found.window, events, tokens)
        findings = [
            told_by_power(one, silent, found.window, power, metrics)
            if one.code == "engine_silent"
            else one
            for one in findings
        ]
    launched = any(mark["mark"] == "engine_start" for mark in raw.marks)
    findings += conditions(provenance, launched=launched)
    counts, disagreements = token_counts(raw, measured, events)
    expected = provenance.get("workload", {}).get("prefix_ratio")
    findings += cached_findings(counts["input"], counts["input_cached"], expected)
    return RunRecord(
        run_id=raw.manifest["run_id"],
        status="complete" if raw.complete else "incomplete",
        power_kind=power_kind(power),
        config=config,
        provenance=provenance,
        tokens=counts,
        windows=windows,
        metrics=dict(sorted(metrics.items())),
        findings=[*findings, *disagreements, *_client_findings(raw, measured)],
    )


def phase_splits(raw: RawRun, kind: str | None = None) -> tuple[dict[str, Split], list[Finding]]:
    """
    An estimate, for each device metered, of what prefill, decode and idling cost.

    Args:
        raw: of a run on one server that did nothing else.
        kind: of the window; None: as the run's configuration says.

    Returns:
        Name of the channel -> split, from energy counters where a device has one,
        and what stands in the way.
    """
    config = raw.manifest["config"]
    measured = raw.requests[raw.requests["phase"] == "measure"]
    events = _measured_events(raw)
    tokens = token_times(events, measured)
    window = {**config["window"], "kind": kind or config["window"]["kind"]}
    found = _window({**config, "window": window}, events, measured, tokens)
    if found.window is None:
        return {}, list(found.findings)
    channels = traces(raw.power_header, raw.power) if raw.power_header else []
    windows = [*_idle_windows(raw), found.window]
    findings = [_roles_apart()] if devices_by_role(_provenance(raw), []) else []
    averages = {t.channel.device: t for t in channels if t.channel.sense == "average"}
    splits: dict[str, Split] = {}
    for trace in one_reading_a_device(channels):
        average = averages.get(trace.channel.device)
        estimate = split(trace, windows, tokens, measured, average=average)
        if isinstance(estimate, Split):
            splits[trace.channel.name] = estimate
        else:
            findings.append(estimate)
    return splits, findings


def _roles_apart() -> Finding:
    return Finding(
        code="roles_apart",
        severity="warning",
        message="prefill and decode have GPUs of their own here: the record's gpu_prefill_... and "
        "gpu_decode_... are counted; a fit of one device's power to both rates is not",
    )


def _measured_events(raw: RawRun) -> npt.NDArray[Any]:
    """Events since the measured phase began; a request without a row is told by its time."""
    warmup = raw.requests.loc[raw.requests["phase"] == "warmup", "request"].to_numpy(np.int64)
    starts = [mark["t_ns"] for mark in raw.marks if mark["mark"] == "measure_start"]
    if not starts:
        return raw.events[:0]
    late = raw.events["t_ns"] >= starts[0]
    own: npt.NDArray[Any] = raw.events[late & ~np.isin(raw.events["request"], warmup)]
    return own


def _window(
    config: dict[str, Any],
    events: npt.NDArray[Any],
    requests: pd.DataFrame,
    tokens: TokenTimes,
) -> Found:
    window = config["window"]
    if window["kind"] == "steady":
        return steady_window(events, requests, tokens, min_s=window["min_s"])
    if window["kind"] == "run":
        found = run_window(events)
    else:
        slots = config["load"].get("concurrency")
        found = ml_energy_window(events, requests, max_num_seqs=slots)
    if found.window is None:
        return found
    silent = silence_findings(found.window, events, tokens)
    return Found(window=found.window, findings=(*found.findings, *silent))


def _client_findings(raw: RawRun, requests: pd.DataFrame) -> list[Finding]:
    """What the client's own audit says; a run that was cut short has only its requests."""
    for mark in raw.marks:
        if mark["mark"] == "provenance" and mark["about"] == "client_measure":
            return audit_findings(LoadAudit(**mark["facts"]))
    return request_findings(requests)


def _idle_windows(raw: RawRun) -> list[Window]:
    """The stretch in which the loaded engine was left alone, if both its edges were marked."""
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    start, end = edges.get("loaded_idle_start"), edges.get("loaded_idle_end")
    if start is None or end is None or end <= start:
        return []
    return [Window(name="loaded_idle", start_ns=start, end_ns=end, planned=True)]


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
