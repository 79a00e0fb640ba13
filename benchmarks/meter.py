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

import meter_joulemark
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
WORLDS: Final = 24
"""
Of one meter, each in a process of its own. Windows of one GPU share what is known of its ticks, so
they are one trial rather than several: many GPUs and few windows of each make a cell.
"""
AT_ONCE: Final = 6
STARTS_S: Final = (15.0, 30.0, 60.0)
"""In the fault runs: time for a meter to be imported and started, at each try."""
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


def start_meter(name: str, world: World, timeline: Plan, folder: Path) -> subprocess.Popen[str]:
    """Start one meter in a process of its own; returns once it is ready, or has ended."""
    folder.mkdir()
    world_file = world.write(folder / "world")
    timeline.write(folder / "schedule", gpus=len(world.gpus))
    environment = build.environment(world_file, library=build.build())
    environment["PATH"] = f"{PEERS / 'stub'}{os.pathsep}{environment['PATH']}"
    environment.pop("PYTHONPATH", None)
    own = name.startswith("joulemark")
    python = sys.executable if own else str(make_peers())
    script = Path(__file__).with_name("meter_joulemark.py" if own else "meter_peers.py")
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [python, str(script), name, "schedule", "answer"],
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
        )
    while process.poll() is None and not (folder / "schedule.ready").exists():
        time.sleep(0.05)
    return process


def finish_meter(name: str, process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Wait for a meter; its answers, CPU and version."""
    if process.wait() != 0:
        raise MeterFailedError(f"{name} failed:\n{(folder / 'errors').read_text()[-3000:]}")
    told: dict[str, Any] = json.loads((folder / "answer").read_text("utf-8"))
    if "journal" in told:
        told["answers"] = meter_joulemark.answers(folder / told.pop("journal"), told)
    return told


def run_meter(name: str, worlds: list[World], timelines: list[Plan]) -> list[dict[str, Any]]:
    """Run one meter on several worlds, AT_ONCE of them at a time, started one after the other."""
    if len(worlds) > AT_ONCE:
        first = run_meter(name, worlds[:AT_ONCE], timelines[:AT_ONCE])
        return first + run_meter(name, worlds[AT_ONCE:], timelines[AT_ONCE:])
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(number) for number in range(len(worlds))]
        processes = [
            start_meter(name, *each) for each in zip(worlds, timelines, folders, strict=True)
        ]
        # Nothing is computed before all have been read.
        for process in processes:
            process.wait()
        return [
            finish_meter(name, process, folder)
            for process, folder in zip(processes, folders, strict=True)
        ]


def accuracy(
    meters: list[str],
    cells: list[str],
    timelines: list[Plan],
    *,
    seed: int,
    jitter_s: float,
) -> tuple[dict[str, dict[tuple[str, str], Cell]], dict[str, dict[str, Any]]]:
    """Every meter over the same timelines, each of a world, one meter after the other."""
    table: dict[str, dict[tuple[str, str], Cell]] = {}
    told: dict[str, dict[str, Any]] = {}
    for name in meters:
        made = [
            accuracy_world(cells, seed=seed + number, jitter_s=jitter_s)
            for number in range(len(timelines))
        ]
        try:
            each = run_meter(name, [world for world, _ in made], timelines)
        except MeterFailedError as error:
            print(f"# {error}", file=sys.stderr)
            table[name] = {}
            continue
        answers = [(number, row) for number, own in enumerate(each) for row in own.pop("answers")]
        models = [[SensorModel(world, gpu) for gpu in range(len(world.gpus))] for world, _ in made]
        names = made[0][1]
        table[name] = _by_cell(answers, models, names, timelines)
        if name == "joulemark":
            asked = [(number, _over_asked_window(row)) for number, row in answers]
            table["joulemark_asked"] = _by_cell(asked, models, names, timelines)
        told[name] = {
            "version": each[0]["version"],
            "cpu_s": sum(own["cpu_s"] for own in each) / len(each),
            "wall_s": sum(own["wall_s"] for own in each) / len(each),
        }
        print(f"# {name}: {told[name]}", file=sys.stderr)
    return table, told


def _by_cell(
    answers: list[tuple[int, dict[str, Any]]],
    models: list[list[SensorModel]],
    names: list[str],
    timelines: list[Plan],
) -> dict[tuple[str, str], Cell]:
    rows: dict[tuple[str, str], tuple[list[dict[str, Any]], list[float]]] = {}
    for world, answer in answers:
        gpu = answer["gpu"]
        cell = names[gpu], timelines[world].windows[answer["window"]][0]
        found = rows.setdefault(cell, ([], []))
        found[0].append(answer)
        truth_j = models[world][gpu].true_energy_j(answer["start_ns"], answer["end_ns"])
        found[1].append(truth_j)
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
    for name in meters:
        for start_s in STARTS_S:
            at_s = [start_s + mark_s for mark_s in FAULT_MARKS_S]
            world = fault_world(seed=seed, reset_s=at_s[0], lost_s=at_s[1])
            timeline = Plan(
                marks_s=(0.0, 6.0, 7.0, 13.0),
                windows=(("reset", 0, 1), ("lost", 2, 3)),
                zero_ns=world.origin_ns + round(start_s * 1e9),
            )
            try:
                (told,) = run_meter(name, [world], [timeline])
            except MeterFailedError as error:
                print(f"# {error}", file=sys.stderr)
                continue
            lines.append(f"| {METERS[name]} | {' | '.join(_fault_cells(told, world, at_s))} |")
            break
        else:
            lines.append(f"| {METERS[name]} | did not run, tried {len(STARTS_S)} times |")
    return lines


def _fault_cells(told: dict[str, Any], world: World, at_s: list[float]) -> list[str]:
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
    return cells


def main() -> None:
    """Run what was asked and print the tables; `--write` puts them into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="at least this many a cell")
    parser.add_argument("--cells", help="waveforms, comma-separated beginnings of names")
    parser.add_argument("--meters", help="comma-separated: " + ", ".join(METERS))
    parser.add_argument("--worlds", type=int, default=WORLDS, help="of one meter")
    parser.add_argument("--quick", action="store_true", help="20 trials, no 30 s windows")
    parser.add_argument("--jitter-s", type=float, default=0.0, help="of the counter's ticks")
    parser.add_argument("--seed", type=int, default=20261126)
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
    each = -(-trials // options.worlds)
    timelines = [
        plan(trials=each, lengths_s=lengths_s, seed=options.seed + number)
        for number in range(options.worlds)
    ]
    table, told = accuracy(meters, cells, timelines, seed=options.seed, jitter_s=options.jitter_s)
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
        f"{options.worlds} worlds, {AT_ONCE} at once, of {len(cells) * PHASES} emulated GPUs "
        f"(h100), in each {len(timelines[0].windows)} overlapping windows on "
        f"a timeline of {timelines[0].marks_s[-1]:.1f} s, tick jitter {options.jitter_s} s, seed "
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
