"""The table of a sweep: one row a point, with intervals over its runs and Pareto fronts."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats

from harness import store
from harness.errors import StoreError

from .pareto import front
from .running import RUNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.record import RunRecord

    from .plan import Point
    from .running import Done

INTERACTIVITY: Final = "interactivity_tok_per_s.p50"
PER_DEVICE: Final = "output_tok_per_s_per_device"
_PLAIN: Final = (
    INTERACTIVITY,
    "ttft_s.p50",
    "output_throughput_tok_per_s",
    PER_DEVICE,
)
_ENERGY: Final = (
    "{boundary}_output_tok_per_s_per_mw_consumed",
    "{boundary}_j_per_output_token",
    "{boundary}_energy_usd_per_mtok_output",
    "{boundary}_average_w",
)
_FRONTS: Final[Mapping[str, bool]] = {
    PER_DEVICE: True,
    "{boundary}_output_tok_per_s_per_mw_consumed": True,
    "{boundary}_j_per_output_token": False,
    "{boundary}_energy_usd_per_mtok_output": False,
}
_BOUNDARIES: Final = ("gpu", "gpu_module", "cpu_package", "node", "chassis")
_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """
    A mean over runs.

    Args:
        mean: of the runs that have the number.
        half_width: of its 95 % interval by Student's t over runs; None with one run.
        runs: how many.
    """

    mean: float
    half_width: float | None
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One point.

    Args:
        values: setting -> value.
        runs: names of its run folders.
        power_kind: the least trusted of its runs; None without power.
        invalid: runs of it that hold a finding of severity `invalid`.
        numbers: metric -> mean over runs; a missing metric is missing.
        on_front: metric -> whether no other point has more interactivity and a better
            value of it.
    """

    values: dict[str, Any]
    runs: tuple[str, ...]
    power_kind: str | None
    invalid: int
    numbers: dict[str, Estimate]
    on_front: dict[str, bool] = field(default_factory=dict)


def rows(points: Sequence[Point], done: Sequence[Done], folder: Path) -> list[Row]:
    """
    The points that are done, in the order of their values.

    Runs with a finding of severity `invalid` are counted, but enter no mean and
    no front. Points of other workloads do other work: each workload has fronts of its own.
    """
    finished = {entry.key: entry for entry in done if entry.status == "complete"}
    grouped: dict[str, tuple[dict[str, Any], list[RunRecord]]] = {}
    names = settings_of(points)
    for point in sorted(points, key=lambda item: (_sortable(item.values, names), item.repeat)):
        records = grouped.setdefault(str(point.values), (point.values, []))[1]
        entry = finished.get(point.key)
        if entry is not None:
            try:
                records.append(store.load_record(folder / RUNS / entry.run)[1])
            except StoreError:
                continue
    found = [_row(values, records) for values, records in grouped.values() if records]
    mark_fronts(found)
    return found


def mark_fronts(found: Sequence[Row]) -> None:
    """Say of each row on which fronts it is, among the rows of its own workload."""
    boundary = _boundary(found)
    workloads: dict[str, list[Row]] = {}
    for row in found:
        workloads.setdefault(_workload(row), []).append(row)
    for alike in workloads.values():
        _mark_fronts(alike, boundary)


def settings_of(found: Sequence[Point | Row]) -> list[str]:
    """Every setting that one of them varies, in the order of appearance."""
    return list(dict.fromkeys(name for one in found for name in one.values))


def _workload(row: Row) -> str:
    own = {name: value for name, value in row.values.items() if name.startswith("workload.")}
    return str(sorted(own.items()))


def _mark_fronts(alike: Sequence[Row], boundary: str) -> None:
    for metric, higher in _FRONTS.items():
        key = metric.format(boundary=boundary)
        pairs = [
            (row.numbers[INTERACTIVITY].mean, row.numbers[key].mean)
            if {INTERACTIVITY, key} <= row.numbers.keys()
            else None
            for row in alike
        ]
        for row, on_it in zip(alike, front(pairs, higher_y=higher), strict=True):
            row.on_front[key] = on_it


def _row(values: dict[str, Any], records: list[RunRecord]) -> Row:
    valid = [record for record in records if all(f.severity != "invalid" for f in record.findings)]
    kinds = [record.power_kind for record in records if record.power_kind]
    numbers: dict[str, list[float]] = {}
    for record in valid:
        for key, value in record.metrics.items():
            numbers.setdefault(key, []).append(value.value)
        throughput = record.metrics.get("output_throughput_tok_per_s")
        devices = _devices(record)
        if throughput is not None and devices:
            numbers.setdefault(PER_DEVICE, []).append(throughput.value / devices)
    return Row(
        values=values,
        runs=tuple(record.run_id for record in records),
        power_kind=max(kinds, key=("measured", "modelled", "emulated").index, default=None),
        invalid=len(records) - len(valid),
        numbers={key: estimate(found) for key, found in numbers.items()},
    )


def estimate(values: Sequence[float]) -> Estimate:
    """
    Mean and interval over runs.

    >>> round(estimate([1.0, 2.0, 3.0]).half_width, 3)
    2.484
    """
    count = len(values)
    if count < 2:  # noqa: PLR2004 - one run has no spread
        return Estimate(mean=float(values[0]), half_width=None, runs=count)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, count - 1))
    return Estimate(mean=float(np.mean(values)), half_width=reach * spread, runs=count)


def _devices(record: RunRecord) -> int:
    """What the engine ran on: its GPUs, or else the devices metered."""
    gpus = record.provenance.get("engine", {}).get("gpus")
    if gpus:
        return len(gpus)
    for window in record.windows:
        for energy in window["energies"]:
            if energy["boundary"] in _BOUNDARIES:
                return len(energy["devices"])
    return 0


def _boundary(found: Sequence[Row]) -> str:
    for boundary in _BOUNDARIES:
        if any(f"{boundary}_j_per_output_token" in row.numbers for row in found):
            return boundary
    return "gpu"


def _sortable(values: dict[str, Any], names: Sequence[str]) -> list[tuple[int, float, str]]:
    found = [values.get(name) for name in names]
    return [
        (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value or ""))
        for value in found
    ]


def columns(found: Sequence[Row]) -> list[str]:
    """The metrics of the table, for the boundary that was metered."""
    boundary = _boundary(found)
    keys = [*_PLAIN, *(key.format(boundary=boundary) for key in _ENERGY)]
    return [key for key in keys if any(key in row.numbers for row in found)]


def to_csv(found: Sequence[Row]) -> str:
    """Every number in full, with its half-width and whether it is on its Pareto front."""
    text = io.StringIO()
    metrics = columns(found)
    settings = settings_of(found)
    fronts = [key for key in metrics if any(key in row.on_front for row in found)]
    header = [*settings, "runs", "invalid_runs", "power_kind"]
    for key in metrics:
        header += [key, f"{key}.half_width"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *(f"pareto.{key}" for key in fronts)])
    for row in found:
        cells: list[Any] = [row.values.get(key, "") for key in settings]
        cells += [len(row.runs), row.invalid, row.power_kind or ""]
        for key in metrics:
            number = row.numbers.get(key)
            cells += ["", ""] if number is None else [number.mean, _or_empty(number.half_width)]
        writer.writerow([*cells, *(int(row.on_front.get(key, False)) for key in fronts)])
    return text.getvalue()


def to_markdown(found: Sequence[Row], title: str) -> str:
    """For people: rounded, points on a front marked with *, the kind of power beside the joules."""
    metrics = columns(found)
    settings = settings_of(found)
    lines = [f"# {title}", "", f"| {' | '.join([*settings, 'runs', 'power', *metrics])} |"]
    lines.append("|" + "---|" * (len(settings) + 2 + len(metrics)))
    for row in found:
        cells = [str(row.values.get(key, "")) for key in settings]
        bad = f" ({row.invalid} invalid)" if row.invalid else ""
        cells += [f"{len(row.runs)}{bad}", row.power_kind or "none"]
        for key in metrics:
            number = row.numbers.get(key)
            mark = "*" if row.on_front.get(key) else ""
            cells.append("" if number is None else f"{_rounded(number)}{mark}")
        lines.append(f"| {' | '.join(cells)} |")
    legend = (
        "Means over runs ± half of the 95 % interval (Student's t over runs; none with one run). "
        f"* on its workload's Pareto front against {INTERACTIVITY}. Runs with an invalid finding "
        "enter no mean. A device is a GPU of the engine, or else what was metered."
    )
    return "\n".join([*lines, "", legend, ""])


def _rounded(number: Estimate) -> str:
    value = f"{number.mean:.4g}"
    return value if number.half_width is None else f"{value} ± {number.half_width:.2g}"


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value
