"""Stage `known-work`: joules of matrix products and copies whose FLOP and bytes are known."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.cost import catalogue_files
from harness.integrate import window_energies
from harness.timeline import Window

from . import emulated
from .loads import Worker
from .recording import read_json, recorded, traces_of, write_json

REPEATS = 3
KINDS = ("compute", "memory")
_BF16_OVER_FP8 = 2.0


def run(folder: Path, *, seconds: float, say: Callable[[str], None]) -> list[str]:
    """
    Record *seconds* of each load, three times, and as long an idle stretch before each.

    Returns:
        What failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    wanted = [(k, n) for n in range(REPEATS) for k in KINDS]
    left = [(k, n) for k, n in wanted if not (folder / f"{k}_{n}.json").exists()]
    if not left:
        return []
    with Worker() as worker:
        write_json(folder / "worker.json", worker.facts)
        for kind, number in left:
            try:
                with recorded(folder, f"{kind}_{number}") as (sampler, step):
                    begin_ns = sampler.mark()
                    worker.hold("idle", seconds / 2)
                    step["idle_ns"] = [begin_ns, sampler.mark()]
                    # Clocks and temperature settle before what counts.
                    worker.hold(kind, 1.0)
                    start_ns = sampler.mark()
                    step["load"] = worker.hold(kind, seconds)
                    step["window_ns"] = [start_ns, sampler.mark()]
            except Exception as error:  # noqa: BLE001 - the other repeats are worth having
                failed.append(f"{kind}_{number}: {type(error).__name__}: {error}")
                say(f"known-work: {failed[-1]}")
            else:
                say(f"known-work: {kind} {number + 1} of {REPEATS} done")
    return failed


def compute(folder: Path, *, world_file: str | None = None) -> dict[str, Any]:
    """Joules a FLOP and a bit of every repeat, beside the figures that the roofline uses."""
    found: dict[str, Any] = {"worker": read_json(folder / "worker.json")}
    device = ""
    for kind in KINDS:
        rows = []
        for number in range(REPEATS):
            step = read_json(folder / f"{kind}_{number}.json")
            if step:
                rows.append(_repeat(folder, f"{kind}_{number}", step, world_file))
                gpus = step["facts"].get("nvml", {}).get("gpus", {})
                device = next((str(gpu.get("name")) for gpu in gpus.values()), device)
        if rows:
            found[kind] = {"repeats": rows, "mean": _mean(rows)}
    found["roofline"] = figures(device)
    return found if len(found) > 2 else {}


def _repeat(
    folder: Path, name: str, step: Mapping[str, Any], world_file: str | None
) -> dict[str, Any]:
    found = [t for t in traces_of(folder, name) if t.channel.boundary != "gpu_memory"]
    (start_ns, end_ns), (idle_a, idle_b) = step["window_ns"], step["idle_ns"]
    energy = window_energies(
        found, Window(name="load", start_ns=start_ns, end_ns=end_ns, planned=True)
    )[0]
    idle = window_energies(
        found, Window(name="idle", start_ns=idle_a, end_ns=idle_b, planned=True)
    )[0]
    load = step["load"]
    seconds = (load["end_ns"] - load["start_ns"]) / 1e9
    work = load["flop"] or load["bytes"] * 8
    per_s = work / seconds
    # A rate, not a sum: the metered window begins and ends at ticks, the work's does not.
    row = {
        "boundary": energy.boundary,
        "power_kind": energy.power_kind,
        "seconds": seconds,
        "per_s": per_s,
        "average_w": energy.average_w,
        "low_w": energy.low_j / energy.window.duration_s,
        "high_w": energy.high_j / energy.window.duration_s,
        "idle_w": idle.average_w,
        "pj_each_gross": energy.average_w / per_s * 1e12,
        "pj_each_above_idle": (energy.average_w - idle.average_w) / per_s * 1e12,
        "disagreement_ratio": energy.disagreement_ratio,
        "findings": [finding.code for finding in energy.findings],
    }
    if world_file is not None:
        truth_j = emulated.true_energy_j(world_file, energy.window.start_ns, energy.window.end_ns)
        row["error_against_truth_ratio"] = energy.energy_j / truth_j - 1
    return row


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the repeats, and their coefficient of variation."""
    keys = ("per_s", "average_w", "idle_w", "pj_each_gross", "pj_each_above_idle")
    means = {key: statistics.fmean(row[key] for row in rows) for key in keys}
    spread = None
    if len(rows) > 1:
        values = [row["pj_each_gross"] for row in rows]
        spread = statistics.stdev(values) / statistics.fmean(values)
    return {**means, "n": len(rows), "spread_ratio": spread}


def figures(device_name: str) -> dict[str, Any]:
    """What the catalogue says of this card: the roofline's energies and the vendor's rates."""
    known = catalogue_files.load()
    card = known.recognise(device_name.removesuffix(" (emulated)"))
    if card is None:
        return {"device": device_name, "accelerator": None}
    flop_pj, memory_pj = card.value("fp8_pj_per_flop"), card.value("memory_pj_per_bit")
    return {
        "device": device_name,
        "accelerator": card.key,
        "compute_pj_each": None if flop_pj is None else flop_pj * _BF16_OVER_FP8,
        "memory_pj_each": memory_pj,
        "static_w": card.value("static_w"),
        "compute_per_s": (card.value("bf16_tflops") or 0) * 1e12 or None,
        "memory_per_s": (card.value("bandwidth_tb_per_s") or 0) * 8e12 or None,
    }
