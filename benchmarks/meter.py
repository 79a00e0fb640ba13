"""Compares energy meters on emulated GPUs whose true energy is known: `make bench-meter`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import meter_sampler
import numpy as np
from meter_tables import METERS, Cell, insert, judge, said, tables
from meter_worlds import PHASES, Plan, accuracy_world, fault_world, plan, shapes

from harness.emulator import build
from harness.emulator.model import SensorModel

if TYPE_CHECKING:
    from harness.emulator.world import World

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / ".build" / "bench-meter"
PEER_PACKAGES: Final = (
    "zeus==0.16.0",
    "aiperf==0.13.0",
    "codecarbon==3.3.2",
    "nvidia-ml-py==13.615.71",
)
LENGTHS_S: Final = (0.5, 1.0, 5.0, 30.0)
START_S: Final = 15.0
"""In the fault runs: time for a meter to be imported and started."""
FAULT_MARKS_S: Final = (3.5, 10.5)
"""When the counter is reset, and when the GPU is lost, after the first edge."""


class MeterFailedError(Exception):
    """A meter did not start or crashed; a busy machine can make it so."""


def make_peers() -> Path:
    """Make the peers' environment once; returns its interpreter."""
    python = PEERS / "bin" / "python"
    stamp = PEERS / "installed.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != "\n".join(PEER_PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
        stamp.write_text("\n".join(PEER_PACKAGES), "utf-8")
    # CodeCarbon believes in an NVIDIA GPU only where it can run this program.
    stub = PEERS / "stub" / "nvidia-smi"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text("#!/bin/sh\nexit 0\n", "utf-8")
    stub.chmod(0o755)
    return python


def run_meter(name: str, world: World, timeline: Plan, folder: Path) -> dict[str, Any]:
    """Run one meter in a process of its own; its answers, CPU and version."""
    world_file = world.write(folder / f"{name}.world")
    schedule, answer = folder / f"{name}.schedule", folder / f"{name}.json"
    timeline.write(schedule, gpus=len(world.gpus))
    environment = build.environment(world_file, library=build.build())
    environment["PATH"] = f"{PEERS / 'stub'}{os.pathsep}{environment['PATH']}"
    environment.pop("PYTHONPATH", None)
    if name.startswith("joulemark"):
        script = Path(__file__).with_name("meter_joulemark.py")
        python, arguments = sys.executable, [name, schedule, answer, folder / f"{name}.journal"]
    else:
        script = Path(__file__).with_name("meter_peers.py")
        python, arguments = str(make_peers()), [name, schedule, answer]
    command = [python, str(script), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MeterFailedError(f"{name} failed:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return told


def accuracy(
    meters: list[str], cells: list[str], timeline: Plan, *, seed: int, jitter_s: float
) -> tuple[dict[str, dict[tuple[str, str], Cell]], dict[str, dict[str, Any]]]:
    """Every meter over the same timeline of the same world, one after the other."""
    table: dict[str, dict[tuple[str, str], Cell]] = {}
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in meters:
            world, names = accuracy_world(cells, seed=seed, jitter_s=jitter_s)
            models = [SensorModel(world, gpu) for gpu in range(len(world.gpus))]
            try:
                told[name] = run_meter(name, world, timeline, Path(scratch))
            except MeterFailedError as error:
                print(f"# {error}", file=sys.stderr)
                table[name] = {}
                continue
            answers = told[name].pop("answers")
            table[name] = _by_cell(answers, models, names, timeline)
            if name == "joulemark":
                asked = [_over_asked_window(answer) for answer in answers]
                table["joulemark_asked"] = _by_cell(asked, models, names, timeline)
            print(f"# {name}: {told[name]}", file=sys.stderr)
    return table, told


def _by_cell(
    answers: list[dict[str, Any]], models: list[SensorModel], names: list[str], timeline: Plan
) -> dict[tuple[str, str], Cell]:
    rows: dict[tuple[str, str], tuple[list[dict[str, Any]], list[float]]] = {}
    for answer in answers:
        gpu = answer["gpu"]
        found = rows.setdefault((names[gpu], timeline.windows[answer["window"]][0]), ([], []))
        found[0].append(answer)
        found[1].append(models[gpu].true_energy_j(answer["start_ns"], answer["end_ns"]))
    return {key: judge(*pair) for key, pair in rows.items()}


def _over_asked_window(answer: dict[str, Any]) -> dict[str, Any]:
    """What a user gets who ignores the stated edges: the mean power, over the window asked for."""
    start_ns, end_ns = answer["asked_start_ns"], answer["asked_end_ns"]
    stretch = (end_ns - start_ns) / (answer["end_ns"] - answer["start_ns"])
    energy_j = answer["energy_j"]
    scaled_j = None if energy_j is None else energy_j * stretch
    return {key: answer[key] for key in ("window", "gpu", "error")} | {
        "start_ns": start_ns,
        "end_ns": end_ns,
        "energy_j": scaled_j,
    }


def faults(meters: list[str], *, seed: int) -> list[str]:
    """What each meter says of a window in which the counter is reset, and of one with a loss."""
    told_of = "says | true up to it | true in the window"
    lines = [f"| meter | counter reset: {told_of} | GPU lost: {told_of} |", "|---" * 7 + "|"]
    with tempfile.TemporaryDirectory() as scratch:
        for name in meters:
            at_s = [START_S + mark_s for mark_s in FAULT_MARKS_S]
            world = fault_world(seed=seed, reset_s=at_s[0], lost_s=at_s[1])
            timeline = Plan(
                marks_s=(0.0, 6.0, 7.0, 13.0),
                windows=(("reset", 0, 1), ("lost", 2, 3)),
                zero_ns=world.origin_ns + round(START_S * 1e9),
            )
            try:
                told = run_meter(name, world, timeline, Path(scratch))
            except MeterFailedError as error:
                print(f"# {error}", file=sys.stderr)
                lines.append(f"| {METERS[name]} | did not run |")
                continue
            cells = []
            for which, fault_s in enumerate(at_s):
                # GPU 0 is judged in the first window, GPU 1 in the second.
                (answer,) = (row for row in told["answers"] if row["gpu"] == row["window"] == which)
                model = SensorModel(world, which)
                start_ns = answer.get("asked_start_ns", answer["start_ns"])
                end_ns = answer.get("asked_end_ns", answer["end_ns"])
                fault_ns = world.origin_ns + round(fault_s * 1e9)
                until_j = model.true_energy_j(start_ns, fault_ns)
                whole_j = model.true_energy_j(start_ns, end_ns)
                own_j = model.true_energy_j(answer["start_ns"], answer["end_ns"])
                cells += [said(answer, own_j), f"{until_j:.1f} J", f"{whole_j:.1f} J"]
            lines.append(f"| {METERS[name]} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run what was asked and print the tables; `--write` puts them into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="at least this many a cell")
    parser.add_argument("--cells", help="waveforms, comma-separated beginnings of names")
    parser.add_argument("--meters", help="comma-separated: " + ", ".join(METERS))
    parser.add_argument("--quick", action="store_true", help="20 trials, no 30 s windows")
    parser.add_argument("--jitter-s", type=float, default=0.0, help="of the counter's ticks")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--no-faults", action="store_true", help="accuracy only")
    parser.add_argument("--write", type=Path, help="replace the tables in this document")
    options = parser.parse_args()
    trials, lengths_s = (20, LENGTHS_S[:3]) if options.quick else (options.trials, LENGTHS_S)
    known = list(shapes(np.random.default_rng(0)))
    asked = options.cells.split(",") if options.cells else [""]
    cells = [name for name in known if name.startswith(tuple(asked))]
    runnable = [name for name in METERS if name != "joulemark_asked"]
    meters = options.meters.split(",") if options.meters else runnable
    if any(not name.startswith("joulemark") for name in meters):
        make_peers()
    load_before = os.getloadavg()
    begun_s = time.perf_counter()
    timeline = plan(trials=trials, lengths_s=lengths_s, seed=options.seed)
    table, told = accuracy(meters, cells, timeline, seed=options.seed, jitter_s=options.jitter_s)
    lines = [f"`{' '.join(['python benchmarks/meter.py', *sys.argv[1:]])}`", ""]
    lines += tables(table, cells, lengths_s)
    lines += ["", "| meter | version | CPU, % of one core | over s |", "|---|---|---|---|"]
    lines += [
        f"| {METERS[name]} | {facts['version']} | {facts['cpu_s'] / facts['wall_s']:.2%} "
        f"| {facts['wall_s']:.1f} |"
        for name, facts in told.items()
    ]
    # Shown now already, should what follows fail.
    print("\n".join(lines), flush=True)
    shown = len(lines)
    if any(name.startswith("joulemark") for name in meters):
        lines += ["", *meter_sampler.lines()]
    if not options.no_faults:
        lines += ["", *faults(meters, seed=options.seed)]
    load_after = os.getloadavg()
    conditions = (
        f"{len(cells) * PHASES} emulated GPUs (h100), {len(timeline.windows)} overlapping windows "
        f"on a timeline of {timeline.marks_s[-1]:.1f} s, tick jitter {options.jitter_s} s, seed "
        f"{options.seed}; Python {platform.python_version()}, {os.cpu_count()} cores shared with "
        f"other work, load average {load_before[0]:.2f} before and {load_after[0]:.2f} after; "
        f"{time.perf_counter() - begun_s:.0f} s in all."
    )
    lines += ["", conditions]
    print("\n".join(lines[shown:]))
    if options.write:
        insert(options.write, lines)


if __name__ == "__main__":
    main()
