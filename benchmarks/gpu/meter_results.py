"""Computes from the recorded steps of stage `meter` what the sensors of a card do."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import CoverageError
from harness.integrate import window_energies
from harness.joules import lag
from harness.joules.counter import stretches
from harness.timeline import PowerTrace, Window

from . import emulated, polls
from .arithmetic import (
    Step,
    changes,
    counter_delays_s,
    mean_w,
    power_delays_s,
    slope_w,
    ticks,
)
from .meter import AIMED, LOADS, PHASES, RATES_HZ
from .recording import gpu_channels, read_json, traces_of

WINDOWS_EACH = 8
_SETTLED_S = 1.3
"""After a load begins: the average power is a mean over one second."""
_GOLDEN = 0.6180339887498949


def compute(folder: Path, *, world_file: str | None = None) -> dict[str, Any]:
    """
    Everything that the files of *folder* tell; a part whose files are not there is absent.

    Args:
        folder: of stage `meter`.
        world_file: the emulator's, of a dry run: errors against the truth are then given, too.
    """
    found: dict[str, Any] = {
        "worker": read_json(folder / "worker.json"),
        "calls": {
            name: answer
            for name in ("idle", "loaded")
            if (answer := read_json(folder / f"calls_{name}.json"))
        },
        "facts": _facts(folder),
        "ticks": _ticks(folder),
        "polls": polls.compute(folder),
        "delays": _delays(folder),
        "windows": _windows(folder, world_file),
        "locked": _locked(folder),
        "rates": _rates(folder),
        "idle": _idle(folder),
        "sampler": _sampler(folder, "window_compute", "window_idle"),
        "sampler_aimed": _sampler(folder, f"window_{AIMED}"),
    }
    return {key: value for key, value in found.items() if value}


def _facts(folder: Path) -> dict[str, Any]:
    for name in ("window_idle", "bare_idle"):
        if step := read_json(folder / f"{name}.json"):
            channels = [
                {"name": t.channel.name.split(":")[-2:], "method": t.channel.method,
                 "power_kind": t.channel.power_kind}
                for t in traces_of(folder, name)
            ]  # fmt: skip
            return {"nvml": step["facts"].get("nvml", {}), "channels": channels}
    return {}


def _ticks(folder: Path) -> dict[str, Any]:
    channels = gpu_channels(traces_of(folder, "ticks"))
    found = {sense: ticks(trace) for sense, trace in channels.items()}
    return {sense: dataclasses.asdict(value) for sense, value in found.items() if value}


def steps_of(load: Mapping[str, Any]) -> list[Step]:
    """The steps of a recorded square load: a rise and a fall for each pulse."""
    on_s, off_s = load["on_s"], load["off_s"]
    found = []
    for start_ns, end_ns in load["pulses"]:
        found.append(Step(t_ns=start_ns, rising=True, held_before_s=off_s, held_after_s=on_s))
        found.append(Step(t_ns=end_ns, rising=False, held_before_s=on_s, held_after_s=off_s))
    return found


def _delays(folder: Path) -> dict[str, Any]:
    step = read_json(folder / "steps.json")
    channels = gpu_channels(traces_of(folder, "steps"))
    if not step or not channels:
        return {}
    found: dict[str, Any] = {}
    for sense, trace in channels.items():
        measure = counter_delays_s if sense == "counter" else power_delays_s
        for rising in (True, False):
            steps = [one for one in steps_of(step["load"]) if one.rising == rising]
            delays = measure(trace, steps)
            if delays:
                found.setdefault(sense, {})["rise" if rising else "fall"] = {
                    "n": len(delays),
                    "median_s": statistics.median(delays),
                    "least_s": min(delays),
                    "most_s": max(delays),
                }
    if "counter" in channels:
        pulses = step["load"]["pulses"]
        window = Window(name="steps", start_ns=pulses[0][0], end_ns=pulses[-1][1])
        knots = stretches(channels["counter"])
        if knots:
            estimate = lag.estimate(knots[-1], channels.get("average"), window)
            found["as_joulemark_corrects_it"] = dataclasses.asdict(estimate)
    return found


def _windows(folder: Path, world_file: str | None) -> list[dict[str, Any]]:
    durations = (read_json(folder / "lengths.json") or {}).get("durations_s", [])
    rows = []
    for load in (*LOADS, AIMED):
        step = read_json(folder / f"window_{load}.json")
        found = [
            t for t in traces_of(folder, f"window_{load}") if t.channel.boundary != "gpu_memory"
        ]
        if not step or not found:
            continue
        rows += [_row(load, step["load"], found, float(d), world_file) for d in durations]
    return [row for row in rows if row["n"]]


def _row(
    load: str,
    held: Mapping[str, Any],
    found: Sequence[PowerTrace],
    duration_s: float,
    world_file: str | None,
) -> dict[str, Any]:
    """Windows of one length at different phases: the counter, and the integrals against it."""
    first_ns = held["start_ns"] + _SETTLED_S * 1e9
    room_ns = held["end_ns"] - duration_s * 1e9 - first_ns
    watts: list[float] = []
    half_widths: list[float] = []
    off: dict[str, list[float]] = {}
    errors: list[float] = []
    codes: set[str] = set()
    for number in range(WINDOWS_EACH if room_ns > 0 else 0):
        start_ns = int(first_ns + (number * _GOLDEN % 1.0) * room_ns)
        window = Window(name=load, start_ns=start_ns, end_ns=int(start_ns + duration_s * 1e9))
        try:
            energy = window_energies(found, window)[0]
        except CoverageError:
            codes.add("not_covered")
            continue
        watts.append(energy.average_w)
        half_widths.append((energy.high_j - energy.low_j) / 2 / energy.energy_j)
        for method, joules in energy.cross_checks.items():
            off.setdefault(method, []).append(joules / energy.energy_j - 1)
        codes |= {finding.code for finding in energy.findings}
        if world_file is not None:
            # A window of a counter is named by the method that the first boundary used.
            truth_j = emulated.true_energy_j(
                world_file, energy.window.start_ns, energy.window.end_ns
            )
            errors.append(energy.energy_j / truth_j - 1)
    return {
        "load": load,
        "duration_s": duration_s,
        "n": len(watts),
        "counter_w": statistics.fmean(watts) if watts else None,
        "half_width_ratio": statistics.median(half_widths) if half_widths else None,
        "against_counter": {
            method: {"median_ratio": statistics.median(v), "worst_ratio": max(v, key=abs)}
            for method, v in off.items()
        },
        "worst_error_against_truth_ratio": max(errors, key=abs) if errors else None,
        "findings": sorted(codes),
    }


def _locked(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for phase in PHASES:
        name = f"locked_{phase:g}"
        step = read_json(folder / f"{name}.json")
        channels = gpu_channels(traces_of(folder, name))
        if not step or not channels:
            continue
        pulses = step["load"]["pulses"]
        # Whole periods, the first second left to settle.
        start_ns, end_ns = pulses[0][0] + int(_SETTLED_S * 1e9), pulses[-1][0]
        inside = [(a, b) for a, b in pulses if a >= start_ns and a < end_ns]
        on_ns = sum(b - a for a, b in inside)
        row: dict[str, Any] = {
            "phase": phase,
            "on_ratio": on_ns / (end_ns - inside[0][0]) if inside else None,
            "pulses": len(inside),
        }
        row |= _watts(channels, start_ns, end_ns)
        rows.append(row)
    return rows


def _watts(
    channels: Mapping[str, PowerTrace], start_ns: float, end_ns: float, *, planned: bool = False
) -> dict[str, Any]:
    """Of each reading; the counter's as joulemark meters it, with half its interval's width."""
    found: dict[str, Any] = {}
    for sense in ("instant", "average"):
        if sense in channels:
            found[f"{sense}_w"] = mean_w(channels[sense], start_ns, end_ns)
    if "counter" in channels:
        edges = {"start_ns": int(start_ns), "end_ns": int(end_ns)}
        window = Window(name="stretch", **edges, planned=planned)
        try:
            energy = window_energies(list(channels.values()), window)[0]
        except CoverageError:
            found["counter_w"] = slope_w(channels["counter"], start_ns, end_ns)
        else:
            found["counter_w"] = energy.average_w
            half_j = (energy.high_j - energy.low_j) / 2
            found["counter_half_width_w"] = half_j / energy.window.duration_s
    return found


def _rates(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for rate_hz in RATES_HZ:
        for turn in range(2):
            name = f"rate_{rate_hz:g}_{turn}"
            step = read_json(folder / f"{name}.json")
            channels = gpu_channels(traces_of(folder, name))
            if not step or not channels:
                continue
            start_ns, end_ns = step["window_ns"]
            row: dict[str, Any] = {
                "asked_hz": rate_hz,
                "in_force_hz": [step["audit"]["power_hz"], step["audit"]["counter_hz"]],
                "start_s": start_ns / 1e9,
                "seconds": (end_ns - start_ns) / 1e9,
            }
            rows.append(row | _watts(channels, start_ns, end_ns, planned=True))
    return rows


def _idle(folder: Path) -> dict[str, Any]:
    """Watts without and with a CUDA context that does nothing."""
    found: dict[str, Any] = {}
    for name, key in (("bare_idle", "bare"), ("window_idle", "with_context")):
        step = read_json(folder / f"{name}.json")
        channels = gpu_channels(traces_of(folder, name))
        if not step or not channels:
            continue
        if "load" in step:
            edges = [step["load"]["start_ns"] + 5e8, step["load"]["end_ns"]]
        else:
            edges = step["window_ns"]
        found[key] = _watts(channels, *edges, planned="window_ns" in step)
    return found


def _sampler(folder: Path, *names: str) -> dict[str, Any]:
    """The sampler's audit of the first of these steps that is there."""
    step = next((found for name in names if (found := read_json(folder / f"{name}.json"))), None)
    if not step:
        return {}
    audit = step["audit"]
    keys = ("call_us", "period_error_ms", "missed", "longest_gap_s", "cpu_s", "wall_s", "power_hz",
            "counter_hz", "faults", "fault", "aimed", "round_robin")  # fmt: skip
    return {key: audit.get(key) for key in keys}


def distribution_ms(trace: PowerTrace) -> list[float]:
    """All intervals between changes, for a plot or a closer look."""
    return [float(v) for v in np.diff(changes(trace).middle_ns) / 1e6]
