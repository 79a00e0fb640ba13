"""Turns what the stages left into `results.json` and `report.md`; runs anywhere, from the files."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import engine_results, known_work, meter_results, report_loads
from .law import law
from .markdown import number, percent, share, table
from .recording import read_json, write_json

STAGES = ("doctor", "meter", "known-work", "engine")


def gather(work: Path, *, world_file: str | None = None) -> dict[str, Any]:
    """Compute everything; what went wrong in computing a part is said in its place."""
    results: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": {"machine": platform.machine(), "kernel": platform.release(),
                 "python": platform.python_version()},
        "stages": {s: read_json(work / s / "stage.json") or {"status": "not run"} for s in STAGES},
    }  # fmt: skip
    results["doctor"] = read_json(work / "doctor" / "doctor.json")
    parts = {
        "meter": lambda: meter_results.compute(work / "meter", world_file=world_file),
        "known_work": lambda: known_work.compute(work / "known-work", world_file=world_file),
        "engine": lambda: [
            found
            for folder in sorted((work / "engine").glob("*"))
            if folder.is_dir() and (found := engine_results.compute(folder, folder.name))
        ],
    }
    for name, compute in parts.items():
        try:
            results[name] = compute()
        except Exception as error:  # noqa: BLE001 - one part that is wrong must not hide the others
            results[f"{name}_problem"] = f"{type(error).__name__}: {error}"
    results["power_kind"] = _kind(results)
    results["law"] = [dataclasses.asdict(verdict) for verdict in law(results)]
    return results


def _kind(results: Mapping[str, Any]) -> str | None:
    channels = (results.get("meter") or {}).get("facts", {}).get("channels", [])
    kinds = {channel["power_kind"] for channel in channels}
    if not kinds and results.get("doctor"):
        kinds = {results["doctor"].get("power_kind")}
    return "emulated" if "emulated" in kinds else next(iter(kinds), None)


def write(results: Mapping[str, Any], out: Path) -> None:
    """`results.json` and `report.md` in *out*."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results)
    (out / "report.md").write_text("\n".join(_lines(results)) + "\n", encoding="utf-8")


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    meter = results.get("meter") or {}
    nvml = meter.get("facts", {}).get("nvml", {})
    gpu: Mapping[str, Any] = next(iter(nvml.get("gpus", {}).values()), {})
    yield f"# GPU check: {gpu.get('name', 'no card')}, {results['made'][:10]}"
    yield ""
    if results["power_kind"] != "measured":
        yield f"**Power was {str(results['power_kind'] or 'not read').upper()}, not measured: every"
        yield "watt and joule below is made up to try the protocol, and says nothing of a card.**"
        yield ""
    yield f"Driver {nvml.get('driver')}, power limit {number(gpu.get('power_limit_w'), 0)} W,"
    yield f"{number(gpu.get('temperature_c'), 0)} °C at the start. Made by `make gpu-check`."
    yield ""
    yield from table(
        ("stage", "status", "seconds", "failed"),
        [
            (
                name,
                s.get("status"),
                number(s.get("seconds"), 0),
                "; ".join(s.get("failed", [])) or "",
            )
            for name, s in results["stages"].items()
        ],
    )
    for key in ("meter_problem", "known_work_problem", "engine_problem"):
        if key in results:
            yield f"\nProblem: {key}: {results[key]}"
    kind = "" if results["power_kind"] == "measured" else f" ({str(results['power_kind']).upper()})"
    yield f"\n## The law of measurement, point by point{kind}\n"
    yield from table(
        ("point", "claim", "verdict", "seen"),
        [(v["point"], v["claim"], v["verdict"], v["seen"]) for v in results["law"]],
    )
    yield from _calls(meter)
    yield from _ticks(meter)
    yield from _windows(meter)
    yield from _locked(meter)
    yield from _rates(meter)
    yield from report_loads.known_work(results.get("known_work") or {})
    for sweep in results.get("engine") or []:
        yield from report_loads.engine(sweep)


def _calls(meter: Mapping[str, Any]) -> Iterator[str]:
    calls = meter.get("calls", {})
    if not calls:
        return
    yield "\n## What a call costs, microseconds\n"
    names = list(next(iter(calls.values()))["calls"])
    rows = []
    for name in names:
        row: list[Any] = [name]
        for when in ("idle", "loaded"):
            found = calls.get(when, {}).get("calls", {}).get(name, {})
            us = found.get("us")
            row += (
                [number(us["p50"], 1), number(us["p99"], 1)] if us else [found.get("error", ""), ""]
            )
        rows.append(row)
    yield from table(("call", "idle p50", "idle p99", "loaded p50", "loaded p99"), rows)


def _ticks(meter: Mapping[str, Any]) -> Iterator[str]:
    if meter.get("ticks"):
        yield "\n## How often readings are renewed, milliseconds\n"
        yield from table(
            ("reading", "period", "min", "p1", "p50", "p99", "max", "skipped", "resolution",
             "jitter"),
            [
                (name, number(t["period_ms"], 3), *(number(v, 1) for v in t["interval_ms"]),
                 t["skipped"], number(t["resolution_ms"], 2),
                 number(t["jitter_ms"], 2) or "none beyond the resolution")
                for name, t in meter["ticks"].items()
            ],
        )  # fmt: skip
    if polled := meter.get("polls"):
        lag = ", ".join(f"{k} {v * 1e3:.1f} ms" for k, v in polled["median_delay_s"].items())
        yield f"\nRead back to back {polled['reads']:,} times, {polled['ticks']} ticks:"
        if polled["period_ms"] is None:
            yield "they are on no lattice;"
        else:
            yield f"one lattice of {polled['period_ms']:.4f} ms, {polled['room_ms']:.2f} ms inside"
            yield "of all brackets (negative: there is none that lies in all);"
        yield f"a step of the load shows after (medians): {lag or 'not seen'}."
    delays = {k: v for k, v in meter.get("delays", {}).items() if k != "as_joulemark_corrects_it"}
    if delays:
        yield "\n## How late readings follow a step of the load, milliseconds\n"
        yield from table(
            ("reading", "side", "steps", "median", "least", "most"),
            [
                (
                    name,
                    side,
                    d["n"],
                    *(number(d[k] * 1e3, 1) for k in ("median_s", "least_s", "most_s")),
                )
                for name, sides in delays.items()
                for side, d in sides.items()
            ],
        )
        corrected = meter["delays"].get("as_joulemark_corrects_it")
        if corrected:
            lag_ms = corrected["lag_s"] * 1e3
            yield f"\njoulemark's own estimate of the counter's lag: {lag_ms:.0f} ms"
            yield f"(standard deviation {corrected['sigma_s'] * 1e3:.0f} ms)."


def _windows(meter: Mapping[str, Any]) -> Iterator[str]:
    rows = meter.get("windows", [])
    if not rows:
        return
    yield "\n## Counter against integrals, windows at eight phases\n"
    yield "Share of the counter's joules: median, and the worst window's.\n"
    truth = any(row["worst_error_against_truth_ratio"] is not None for row in rows)
    head = ["load", "window s", "counter W", "± of it", "instant", "worst", "average", "worst"]
    cells = []
    for r in rows:
        instant = r["against_counter"].get("instant power", {})
        average = r["against_counter"].get("average power", {})
        cells.append(
            [r["load"], f"{r['duration_s']:g}", number(r["counter_w"], 2),
             share(r["half_width_ratio"], 3),
             *(percent(m.get(k), 2) for m in (instant, average)
               for k in ("median_ratio", "worst_ratio")),
             *([percent(r["worst_error_against_truth_ratio"], 3)] if truth else [])]
        )  # fmt: skip
    yield from table([*head, *(["counter against the emulated truth"] if truth else [])], cells)


def _locked(meter: Mapping[str, Any]) -> Iterator[str]:
    rows = meter.get("locked", [])
    if rows:
        yield "\n## A square load of 100 ms, in step with the ticks, at four phases\n"
        yield from table(
            ("phase", "on", "counter W", "instant W", "average W"),
            [
                (r["phase"], share(r["on_ratio"]), *(number(r.get(f"{s}_w"), 1) for s in
                 ("counter", "instant", "average")))
                for r in rows
            ],
        )  # fmt: skip


def _rates(meter: Mapping[str, Any]) -> Iterator[str]:
    idle = meter.get("idle", {})
    if idle:
        yield "\n## Idle watts\n"
        yield from table(
            ("state", "counter", "instant", "average"),
            [
                (k, *(number(v.get(f"{s}_w"), 2) for s in ("counter", "instant", "average")))
                for k, v in idle.items()
            ],
        )
    rows = meter.get("rates", [])
    if rows:
        yield "\n## Whether reading changes what is read (idle, CUDA context up)\n"
        yield from table(
            ("asked Hz", "in force: power, counter", "counter W", "instant W", "average W"),
            [
                (f"{r['asked_hz']:g}", ", ".join(number(v, 0) or "none" for v in r["in_force_hz"]),
                 *(number(r.get(f"{s}_w"), 2) for s in ("counter", "instant", "average")))
                for r in rows
            ],
        )  # fmt: skip
