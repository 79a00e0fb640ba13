"""Turns what the stages left into `results.json` and `report.md`; runs anywhere, from the files."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import engine_results, known_work, meter_results
from .law import law
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
    yield f"Driver {nvml.get('driver')}, power limit {_n(gpu.get('power_limit_w'), 0)} W,"
    yield f"{_n(gpu.get('temperature_c'), 0)} °C at the start. Made by `make gpu-check`."
    yield ""
    yield from _table(
        ("stage", "status", "seconds", "failed"),
        [
            (name, s.get("status"), _n(s.get("seconds"), 0), "; ".join(s.get("failed", [])) or "")
            for name, s in results["stages"].items()
        ],
    )
    for key in ("meter_problem", "known_work_problem", "engine_problem"):
        if key in results:
            yield f"\nProblem: {key}: {results[key]}"
    kind = "" if results["power_kind"] == "measured" else f" ({str(results['power_kind']).upper()})"
    yield f"\n## The law of measurement, point by point{kind}\n"
    yield from _table(
        ("point", "claim", "verdict", "seen"),
        [(v["point"], v["claim"], v["verdict"], v["seen"]) for v in results["law"]],
    )
    yield from _calls(meter)
    yield from _ticks(meter)
    yield from _windows(meter)
    yield from _locked(meter)
    yield from _rates(meter)
    yield from _known_work(results.get("known_work") or {})
    for sweep in results.get("engine") or []:
        yield from _engine(sweep)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |"


def _n(value: Any, digits: int = 2) -> str | None:  # noqa: ANN401 - a number or nothing
    return None if value is None else f"{value:.{digits}f}"


def _pct(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else f"{value:+.{digits}%}"


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
            row += [_n(us["p50"], 1), _n(us["p99"], 1)] if us else [found.get("error", ""), ""]
        rows.append(row)
    yield from _table(("call", "idle p50", "idle p99", "loaded p50", "loaded p99"), rows)


def _ticks(meter: Mapping[str, Any]) -> Iterator[str]:
    if meter.get("ticks"):
        yield "\n## How often readings are renewed, milliseconds\n"
        yield from _table(
            ("reading", "period", "min", "p1", "p50", "p99", "max", "skipped", "resolution",
             "jitter"),
            [
                (name, _n(t["period_ms"], 3), *(_n(v, 1) for v in t["interval_ms"]), t["skipped"],
                 _n(t["resolution_ms"], 2), _n(t["jitter_ms"], 2) or "none beyond the resolution")
                for name, t in meter["ticks"].items()
            ],
        )  # fmt: skip
    delays = {k: v for k, v in meter.get("delays", {}).items() if k != "as_joulemark_corrects_it"}
    if delays:
        yield "\n## How late readings follow a step of the load, milliseconds\n"
        yield from _table(
            ("reading", "side", "steps", "median", "least", "most"),
            [
                (
                    name,
                    side,
                    d["n"],
                    *(_n(d[k] * 1e3, 1) for k in ("median_s", "least_s", "most_s")),
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
            [r["load"], f"{r['duration_s']:g}", _n(r["counter_w"], 2),
             _pct(r["half_width_ratio"], 3),
             *(_pct(m.get(k), 2) for m in (instant, average)
               for k in ("median_ratio", "worst_ratio")),
             *([_pct(r["worst_error_against_truth_ratio"], 3)] if truth else [])]
        )  # fmt: skip
    yield from _table([*head, *(["counter against the emulated truth"] if truth else [])], cells)


def _locked(meter: Mapping[str, Any]) -> Iterator[str]:
    rows = meter.get("locked", [])
    if rows:
        yield "\n## A square load of 100 ms, in step with the ticks, at four phases\n"
        yield from _table(
            ("phase", "on", "counter W", "instant W", "average W"),
            [
                (r["phase"], _pct(r["on_ratio"], 1), *(_n(r.get(f"{s}_w"), 1) for s in
                 ("counter", "instant", "average")))
                for r in rows
            ],
        )  # fmt: skip


def _rates(meter: Mapping[str, Any]) -> Iterator[str]:
    idle = meter.get("idle", {})
    if idle:
        yield "\n## Idle watts\n"
        yield from _table(
            ("state", "counter", "instant", "average"),
            [
                (k, *(_n(v.get(f"{s}_w"), 2) for s in ("counter", "instant", "average")))
                for k, v in idle.items()
            ],
        )
    rows = meter.get("rates", [])
    if rows:
        yield "\n## Whether reading changes what is read (idle, CUDA context up)\n"
        yield from _table(
            ("asked Hz", "in force: power, counter", "counter W", "instant W", "average W"),
            [
                (f"{r['asked_hz']:g}", ", ".join(_n(v, 0) or "none" for v in r["in_force_hz"]),
                 *(_n(r.get(f"{s}_w"), 2) for s in ("counter", "instant", "average")))
                for r in rows
            ],
        )  # fmt: skip


def _known_work(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield "\n## Known work\n"
    yield f"{(found.get('worker') or {}).get('device')}. Joules at the card, above idle: less the"
    yield "watts of the same context doing nothing. Roofline: `joulemark explain`'s figure.\n"
    # Work that was only pretended says nothing of a card's energy.
    pretended = (found.get("worker") or {}).get("pretended")
    roofline = {} if pretended else found.get("roofline", {})
    rows = []
    for kind, unit, rate in (("compute", "pJ/FLOP", "FLOP/s"), ("memory", "pJ/bit", "bit/s")):
        mean = found.get(kind, {}).get("mean")
        if mean:
            rows.append(
                (kind, f"{mean['per_s']:.4g} {rate}", _n(mean["average_w"], 1),
                 _n(mean["idle_w"], 1),
                 f"{mean['pj_each_gross']:.4g} {unit}", f"{mean['pj_each_above_idle']:.4g}",
                 roofline.get(f"{kind}_pj_each"), _rated(roofline.get(f"{kind}_per_s")),
                 _pct(mean["spread_ratio"], 2), mean["n"])
            )  # fmt: skip
    yield from _table(
        ("load", "rate", "W", "idle W", "gross", "above idle", "roofline", "rated", "spread", "n"),
        rows,
    )


def _engine(sweep: Mapping[str, Any]) -> Iterator[str]:
    weights = {run.get("weights") for run in sweep["runs"]}
    yield f"\n## Engine sweep: {sweep['model']}\n"
    yield f"Weights: {', '.join(sorted(map(str, weights)))}. Mean over runs and 95 % interval."
    pooled = sweep.get("split")
    if pooled:
        words = [f"{pooled[k]['value']:.4g} ({pooled[k]['low']:.4g} to {pooled[k]['high']:.4g})"
                 for k in ("prefill_j_per_token", "decode_j_per_token", "idle_w")]  # fmt: skip
        yield f"Split over all runs: {words[0]} J per input token, {words[1]} J per output token,"
        yield f"{words[2]} W idle; {pooled['r2_ratio']:.1%} of the variance, {pooled['bins']} bins."
        for code in pooled["findings"]:
            yield f"Finding: {code}."
    yield ""
    rows = []
    for r in sweep["rows"]:
        near, limit = r["published"] or {}, r["limit"] or {}
        rows.append(
            (r["concurrency"], f"{r['valid']}/{r['runs']}", _ci(r["gpu_j_per_output_token"], 4),
             _ci(r["output_throughput_tok_per_s"], 1), _ci(r["gpu_average_w"], 1),
             _ci(r["gpu_loaded_idle_w"], 1), _pct(r["worst_residual_ratio"], 3),
             f"{near['j_per_output_token']} at {near['max_num_seqs']}" if near else "none",
             f"{limit['limit_j_per_token']:.3g} J, {limit['time_ratio']:.1%} of its rate"
             if limit else "not comparable")
        )  # fmt: skip
    yield from _table(
        ("streams", "valid runs", "J/output token", "tok/s", "W", "loaded idle W", "idle + load",
         "ML.ENERGY v3 (other engine, real weights)", "roofline"),
        rows,
    )  # fmt: skip


def _rated(value: float | None) -> str:
    return "not comparable" if value is None else f"{value:.4g}"


def _ci(found: Mapping[str, Any] | None, digits: int) -> str | None:
    if not found:
        return None
    mean = f"{found['mean']:.{digits}f}"
    if found["low"] is None:
        return mean
    return f"{mean} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
