"""Computes from the runs of stage `engine` what tokens cost, and whether the joules add up."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from harness import store
from harness.cached_input import input_counts
from harness.cost import catalogue_files, point
from harness.errors import CoverageError, JoulemarkError
from harness.integrate import traces, window_energies
from harness.record import RunRecord
from harness.roofline import distance
from harness.roofline import model as roofline_model
from harness.store import RawRun
from harness.timeline import PowerTrace, Window

from . import engine_split, engine_steps, shapes
from .arithmetic import Conservation, conserved
from .engine import done_runs

_FEWEST_RUNS = 3
LIMIT_RATIO = 0.01
"""Idle and load must add up to the whole within this."""
_METRICS = (
    "gpu_j_per_output_token",
    "gpu_j_per_total_token",
    "output_throughput_tok_per_s",
    "total_throughput_tok_per_s",
    "gpu_average_w",
    "gpu_loaded_idle_w",
    "ttft_s.p50",
    "itl_s.p50",
)
_AUDIT = (
    "cpu_share_ratio",
    "scheduling_lag_p99_s",
    "loop_lag_p99_s",
    "requested_concurrency",
    "delivered_concurrency",
    "requests",
    "output_lengths",
)
_PUBLISHED = Path(__file__).with_name("mlenergy_v3.json")


def compute(folder: Path, model: str) -> dict[str, Any]:
    """Rows by concurrency with their splits; each run's split, conservation and client's audit."""
    runs, kept = [], {}
    for path in done_runs(folder):
        try:
            kept[path.name] = store.load(path), store.load_record(path)[1]
        except JoulemarkError as error:
            runs.append({"run": path.name, "concurrency": 0, "problem": str(error)})
        else:
            runs.append({"run": path.name, **_run(*kept[path.name], model)})
    if not runs:
        return {}
    by_point: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        if not run.get("prefill"):
            by_point.setdefault(run["concurrency"], []).append(run)
    rows = [_row(point, by_point[point], model) for point in sorted(by_point)]
    for row in rows:
        names = [run["run"] for run in by_point[row["concurrency"]]]
        own = [kept[name] for name in names if name in kept]
        complete = [(raw, record) for raw, record in own if record.status == "complete"]
        row["split"] = engine_split.as_row(engine_split.of_runs([raw for raw, _ in complete]))
        row["steps"] = engine_steps.pooled(
            [steps for both in complete if (steps := _steps(*both)) is not None]
        )
    prefill = prefill_row([run for run in runs if run.get("prefill")])
    return {"model": model, "rows": rows, "prefill": prefill, "runs": runs}


def _steps(raw: RawRun, record: RunRecord) -> dict[str, Any] | None:
    """Of a run's own window; not in `runs`, which keeps what is short."""
    window = record.load_window
    if window is None:
        return None
    return engine_steps.of_window(raw, window["start_ns"], window["end_ns"])


def _run(raw: RawRun, record: RunRecord, model: str) -> dict[str, Any]:
    window = record.load_window
    invalid = [f.message for f in record.findings if f.severity == "invalid"]
    found: dict[str, Any] = {
        "status": record.status,
        "concurrency": record.config["load"]["concurrency"],
        "isl_tokens": record.config["workload"]["isl_tokens"],
        "prefill": record.config["workload"]["osl_tokens"] == 1,
        "power_kind": record.power_kind,
        "weights": record.provenance.get("engine", {}).get("weights"),
        "metrics": {
            key: {"value": value.value, "low": value.low, "high": value.high}
            for key, value in record.metrics.items()
            if key in _METRICS
        },
        "window_s": None if window is None else window["duration_s"],
        "invalid": invalid,
        "warnings": [f.code for f in record.findings if f.severity == "warning"],
    }
    measured = raw.requests[raw.requests["phase"] == "measure"]
    read, cached = input_counts(measured, raw.marks)
    found["cached_ratio"] = None if not read or cached is None else cached / read
    audit = record.provenance.get("client_measure") or {}
    found["client"] = {key: audit.get(key) for key in _AUDIT}
    try:
        found["split"] = engine_split.as_row(engine_split.of_runs([raw]))
        together = conservation(raw)
        found["conservation"] = None if together is None else dataclasses.asdict(together)
        found["distance"] = _distance(record, model)
    except (JoulemarkError, ValueError) as error:
        found["problem"] = str(error)
    return found


def conservation(raw: RawRun) -> Conservation | None:
    """
    Joules of a run's idle and load, each metered by itself, against those of all of it at once.

    Returns:
        None where the run has no loaded idle or no load, or its power does not cover them.
    """
    if not raw.power_header:
        return None
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    names = ("loaded_idle_start", "loaded_idle_end", "measure_start", "measure_end")
    if not all(name in edges for name in names):
        return None
    return adds_up(traces(raw.power_header, raw.power), [edges[name] for name in names])


def adds_up(power: Sequence[PowerTrace], edges_ns: Sequence[int]) -> Conservation | None:
    """Cut at *edges_ns*: the windows between neighbours, against the one from first to last."""
    gpu = [trace for trace in power if trace.channel.boundary in {"gpu", "gpu_module"}]

    def metered(start_ns: int, end_ns: int) -> tuple[float, float, float]:
        window = Window(name="part", start_ns=start_ns, end_ns=end_ns)
        energy = window_energies(gpu, window)[0]
        return energy.window.start_ns / 1e9, energy.window.end_ns / 1e9, energy.energy_j

    try:
        parts = [metered(a, b) for a, b in itertools.pairwise(edges_ns)]
        return conserved(metered(edges_ns[0], edges_ns[-1]), parts)
    except CoverageError:
        return None


def _distance(record: Any, model: str) -> dict[str, Any] | None:  # noqa: ANN401 - RunRecord
    """How far from the roofline; None for emulated joules, or where the card is not known."""
    known = catalogue_files.load()
    found_point = point.of_run(record, known)
    key = found_point.accelerator
    card = known.accelerators.get(key) if key else None
    try:
        shape = roofline_model.from_config(shapes.by_name(model), name=model)
    except KeyError:
        return None
    found = distance.distance_of_point(found_point, card, shape, known.physics())
    if found is None:
        return None
    return {
        "time_ratio": found.time_ratio,
        "over_phys_ratio": found.over_phys_ratio,
        "over_roof_ratio": found.over_roof_ratio,
        "bound_by": found.limit.bound_by,
        "limit_tok_per_s": found.limit.tok_per_s,
        "limit_j_per_token": found.limit.j_roof_per_token or found.limit.j_phys_per_token,
    }


def _row(concurrency: int, runs: list[dict[str, Any]], model: str) -> dict[str, Any]:
    good = [run for run in runs if not run.get("invalid") and "metrics" in run]
    row: dict[str, Any] = {"concurrency": concurrency, "runs": len(runs), "valid": len(good)}
    for key in _METRICS:
        row[key] = interval([r["metrics"][key]["value"] for r in good if key in r["metrics"]])
    ratios = [abs(r["conservation"]["residual_ratio"]) for r in good if r.get("conservation")]
    row["worst_residual_ratio"] = max(ratios, default=None)
    row["published"] = published(model, concurrency)
    distances = [run["distance"] for run in good if run.get("distance")]
    row["limit"] = distances[0] if distances else None
    return row


def prefill_row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """
    What reading prompts costs where every answer is one token.

    Returns:
        `j_per_input_token` (all of the card's joules), `above_idle_j_per_input_token` (less those
        of the loaded engine left alone), `input_tok_per_s` and `average_w`, each as `interval`
        gives it over the valid runs; None: there are no such runs.
    """
    if not runs:
        return None
    valid = (run for run in runs if not run.get("invalid"))
    found = [reading for run in valid if (reading := _reading(run)) is not None]
    return {
        "concurrency": runs[0]["concurrency"],
        "isl_tokens": runs[0].get("isl_tokens"),
        "runs": len(runs),
        "valid": len(found),
        **{
            key: interval([reading[key] for reading in found])
            for key in (
                "j_per_input_token",
                "above_idle_j_per_input_token",
                "input_tok_per_s",
                "average_w",
            )
        },
    }


def _reading(run: Mapping[str, Any]) -> dict[str, float] | None:
    """Of one run of prefill alone; None: it has not all of the numbers."""
    names = (
        "gpu_j_per_total_token",
        "gpu_average_w",
        "gpu_loaded_idle_w",
        "output_throughput_tok_per_s",
        "total_throughput_tok_per_s",
    )
    metrics = run.get("metrics") or {}
    if not all(name in metrics for name in names):
        return None
    each_j, watts, idle_w, output, both = (metrics[name]["value"] for name in names)
    if both <= output:
        return None
    # The energy and its tokens are of one window, from tick to tick; only their mix is of rates.
    of_input_j = each_j * both / (both - output)
    return {
        "average_w": watts,
        "input_tok_per_s": both - output,
        "j_per_input_token": of_input_j,
        "above_idle_j_per_input_token": of_input_j * (1 - idle_w / watts),
    }


def interval(values: Sequence[float]) -> dict[str, float | int | None] | None:
    """Mean over runs with its 95 % interval by Student's t, of three or more; None: no value."""
    if not values:
        return None
    mean, n = statistics.fmean(values), len(values)
    half = None
    # Of two runs it would be 12.7 standard errors wide and reach below zero.
    if n >= _FEWEST_RUNS:
        half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return {
        "mean": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "n": n,
    }


def published(model: str, concurrency: int) -> Mapping[str, Any] | None:
    """The row of ML.ENERGY v3 with the nearest batch limit; None: it has none of this model."""
    points = json.loads(_PUBLISHED.read_text(encoding="utf-8"))["points"]
    name = model.removesuffix("-mxfp4")
    own = [point for point in points if point["model"] == name]
    if not own:
        return None
    nearest: Mapping[str, Any] = min(
        own, key=lambda point: abs(float(np.log(point["max_num_seqs"] / concurrency)))
    )
    return nearest
