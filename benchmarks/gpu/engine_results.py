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
import pandas as pd
from scipy import stats

from harness import decompose, store
from harness.analysis import phase_splits
from harness.cost import catalogue_files, point
from harness.decompose import Split
from harness.errors import CoverageError, JoulemarkError
from harness.integrate import traces, window_energies
from harness.roofline import distance
from harness.roofline import model as roofline_model
from harness.store import RawRun
from harness.timeline import PowerTrace, ReadStatus, Window
from harness.tokens import TokenTimes, token_times

from . import shapes
from .arithmetic import Conservation, conserved
from .engine import done_runs

_FEWEST_RUNS = 3
LIMIT_RATIO = 0.01
"""Idle and load must add up to the whole within this."""
_METRICS = (
    "gpu_j_per_output_token",
    "output_throughput_tok_per_s",
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
    """Rows by concurrency, and for each run its split, its conservation and its client's audit."""
    runs = [found for path in done_runs(folder) if (found := _run(path, model)) is not None]
    if not runs:
        return {}
    by_point: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        by_point.setdefault(run["concurrency"], []).append(run)
    rows = [_row(point, by_point[point], model) for point in sorted(by_point)]
    pooled = pooled_split(
        [store.load(path) for path in done_runs(folder) if path.name in _good(runs)]
    )
    split = None if pooled is None else dataclasses.asdict(pooled)
    if split is not None:
        split["findings"] = [finding["code"] for finding in split["findings"]]
    return {"model": model, "rows": rows, "runs": runs, "split": split}


def _good(runs: Sequence[Mapping[str, Any]]) -> set[str]:
    return {run["run"] for run in runs if run.get("status") == "complete"}


def pooled_split(raws: Sequence[RawRun]) -> Split | None:
    """
    Joules of prefill, decode and idling by `harness.decompose`, over all runs of a sweep at once.

    One run at one concurrency keeps prefill and decode in step; runs at several, with the idle
    stretch before each, tell them apart, and make the twenty bins that the fit needs. The card's
    counter goes on between the runs, so their readings are one trace.
    """
    counters: list[PowerTrace] = []
    windows: list[Window] = []
    tokens: list[TokenTimes] = []
    requests: list[pd.DataFrame] = []
    for raw in sorted(
        raws, key=lambda raw: int(raw.power["t_before_ns"][0]) if len(raw.power) else 0
    ):
        edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
        own = [
            trace
            for trace in traces(raw.power_header, raw.power)
            if trace.channel.quantity == "energy" and trace.channel.boundary.startswith("gpu")
        ]
        if not own or not {"measure_start", "measure_end"} <= edges.keys():
            continue
        counters.append(own[0])
        for name, start, end in (
            ("loaded_idle", "loaded_idle_start", "loaded_idle_end"),
            ("load", "measure_start", "measure_end"),
        ):
            if start in edges and end in edges:
                windows.append(Window(name=name, start_ns=edges[start], end_ns=edges[end]))
        measured = raw.requests[raw.requests["phase"] == "measure"]
        requests.append(measured)
        mine = np.isin(raw.events["request"], measured["request"].to_numpy(np.int64))
        late = raw.events["t_ns"] >= edges["measure_start"]
        tokens.append(token_times(raw.events[mine & late], measured))
    if not counters or len({trace.channel.device for trace in counters}) != 1:
        return None
    together = PowerTrace(
        counters[0].channel,
        *(
            np.concatenate([getattr(trace, name) for trace in counters])
            for name in ("t_before_ns", "t_after_ns", "value", "status")
        ),
    )
    if np.any(np.diff(together.value[together.status == ReadStatus.OK]) < 0):
        return None  # reset between two runs
    return decompose.split(
        together,
        windows,
        TokenTimes(
            t_ns=np.concatenate([t.t_ns for t in tokens]),
            tokens=np.concatenate([t.tokens for t in tokens]),
            input_t_ns=np.concatenate([t.input_t_ns for t in tokens]),
            input_tokens=np.concatenate([t.input_tokens for t in tokens]),
            findings=(),
        ),
        pd.concat(requests),
    )


def _run(path: Path, model: str) -> dict[str, Any] | None:
    try:
        raw = store.load(path)
        _, record = store.load_record(path)
    except JoulemarkError as error:
        return {"run": path.name, "concurrency": 0, "problem": str(error)}
    invalid = [f.message for f in record.findings if f.severity == "invalid"]
    found: dict[str, Any] = {
        "run": path.name,
        "status": record.status,
        "concurrency": record.config["load"]["concurrency"],
        "power_kind": record.power_kind,
        "weights": record.provenance.get("engine", {}).get("weights"),
        "metrics": {
            key: {"value": value.value, "low": value.low, "high": value.high}
            for key, value in record.metrics.items()
            if key in _METRICS
        },
        "window_s": next(
            (w["duration_s"] for w in record.windows if w["name"] != "loaded_idle"), None
        ),
        "invalid": invalid,
        "warnings": [f.code for f in record.findings if f.severity == "warning"],
    }
    audit = record.provenance.get("client_measure") or {}
    found["client"] = {key: audit.get(key) for key in _AUDIT}
    try:
        splits, _ = phase_splits(raw, "run")
        found["split"] = {name: dataclasses.asdict(split) for name, split in splits.items()}
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
    for name, key in (("prefill", "prefill_j_per_token"), ("decode", "decode_j_per_token")):
        values = [
            split[key]["value"] for run in good for split in (run.get("split") or {}).values()
        ]
        row[f"{name}_j_per_token"] = interval(values)
    ratios = [abs(r["conservation"]["residual_ratio"]) for r in good if r.get("conservation")]
    row["worst_residual_ratio"] = max(ratios, default=None)
    row["published"] = published(model, concurrency)
    distances = [run["distance"] for run in good if run.get("distance")]
    row["limit"] = distances[0] if distances else None
    return row


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
