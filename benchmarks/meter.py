"""Compares energy meters on emulated GPUs whose true energy is known: `make bench-meter`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.emulator import build, make, waveform
from harness.emulator.model import SensorModel
from harness.emulator.world import Fault, World

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / ".build" / "bench-meter"
PEER_PACKAGES: Final = (
    "zeus==0.16.0",
    "aiperf==0.13.0",
    "codecarbon==3.3.2",
    "nvidia-ml-py==13.615.71",
)
LENGTHS_S: Final = (0.5, 1.0, 5.0, 30.0)
PHASES: Final = 3
"""GPUs a waveform, each with sensors and waveform at a phase of its own."""
MARK_S: Final = 0.5
START_S: Final = 25.0
"""In the fault runs: time for a meter to be imported and started."""
FAULT_AFTER_S: Final = 3.5
METERS: Final = {
    "joulemark": "joulemark, edges announced",
    "joulemark_found": "joulemark, edges found afterwards",
    "joulemark_asked": "joulemark, mean power × asked length",
    "zeus": "ZeusMonitor",
    "zeus_power": "Zeus PowerMonitor, 20 Hz",
    "aiperf": "AIPerf collector",
    "codecarbon": "CodeCarbon",
    "smi_poller": "nvidia-smi-like 1 s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What one timeline holds.

    Args:
        marks_s: the edges.
        windows: (cell, first edge, last edge).
        zero_ns: CLOCK_MONOTONIC of edge time 0; None: 2 s after the meter is ready.
    """

    marks_s: tuple[float, ...]
    windows: tuple[tuple[str, int, int], ...]
    zero_ns: int | None = None

    def write(self, path: Path, *, gpus: int) -> None:
        """Write it for the worker processes."""
        data = {"gpus": gpus, "marks_s": self.marks_s, "windows": self.windows}
        data |= {"zero_ns": self.zero_ns}
        path.write_text(json.dumps(data), encoding="utf-8")


def plan(*, trials: int, lengths_s: tuple[float, ...], seed: int) -> Plan:
    """
    Lay windows of every length into one timeline, overlapping each other.

    The edges come every 0.5 s plus up to 0.1 s, so that no window is a whole
    number of ticks and no edge has a fixed place between two ticks; a window
    called 5 s is thus 4.9 to 5.1 s long.
    """
    random = np.random.default_rng(seed)
    wanted = -(-trials // PHASES)
    spans = [round(length_s / MARK_S) for length_s in lengths_s]
    count = max(spans) + wanted + 1
    marks_s = [i * MARK_S + float(random.uniform(0, 0.1)) for i in range(count)]
    windows: list[tuple[str, int, int]] = []
    for length_s, span in zip(lengths_s, spans, strict=True):
        starts = random.choice(count - span, size=min(wanted, count - span), replace=False)
        windows += [(f"{length_s:g}", int(i), int(i) + span) for i in sorted(starts)]
    return Plan(marks_s=tuple(marks_s), windows=tuple(windows))


def shapes(random: np.random.Generator) -> dict[str, waveform.Waveform]:
    """One of each waveform, at a random phase."""
    return {
        "constant": waveform.constant(power_w=680.0),
        "square 2 s": waveform.square(
            low_w=70, high_w=680, period_s=2.0, phase_s=float(random.uniform(0, 2))
        ),
        "square 0.1 s, in phase": waveform.square(low_w=70, high_w=680, period_s=0.1),
        "ramp": waveform.ramp(
            low_w=70, high_w=680, period_s=8.0, phase_s=float(random.uniform(0, 8))
        ),
        "decode-like": waveform.decode(
            seed=int(random.integers(1000)), phase_s=float(random.uniform(0, 60))
        ),
    }


def accuracy_world(cells: list[str], *, seed: int, jitter_s: float) -> tuple[World, list[str]]:
    """Each chosen waveform on PHASES GPUs; the second value names the waveform of each GPU."""
    random = np.random.default_rng(seed)
    waves: list[waveform.Waveform] = []
    names: list[str] = []
    for _ in range(PHASES):
        made = shapes(random)
        names += cells
        waves += [made[cell] for cell in cells]
    world = make.with_sensors(make.make_world(waves, seed=seed), noise_w=1.0, jitter_s=jitter_s)
    gpus = [
        _in_phase(gpu) if name.endswith("in phase") else gpu
        for gpu, name in zip(world.gpus, names, strict=True)
    ]
    return dataclasses.replace(world, gpus=tuple(gpus)), names


def _in_phase(gpu: Any) -> Any:  # noqa: ANN401 - an EmulatedGpu in, one out
    """Turn the 0.1 s square so that each 25 ms sample of field 186 sees only its low half."""
    phase_s = (0.095 - gpu.instant.phase_s) % 0.1
    wave = waveform.square(low_w=70, high_w=680, period_s=0.1, phase_s=phase_s)
    return dataclasses.replace(gpu, waveform=wave)


def fault_world(*, seed: int, fault_s: float) -> World:
    """GPU 0's counter is reset, GPU 1 is lost, both at *fault_s* after the origin."""
    waves = [waveform.constant(power_w=500.0)] * 2
    world = make.with_sensors(make.make_world(waves, seed=seed), noise_w=1.0)
    faults = (
        Fault(kind="reset", gpu=0, start_s=fault_s),
        Fault(kind="lost", gpu=1, start_s=fault_s),
    )
    return dataclasses.replace(world, faults=faults)


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
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one meter did in one cell."""

    trials: int
    median_ratio: float | None
    worst_ratio: float | None
    refused: int
    zero_or_negative: int
    covered_ratio: float | None
    width_ratio: float | None


def judge(answers: list[dict[str, Any]], truths_j: list[float]) -> Cell:
    """Compare answers with truths of the same order."""
    errors, halves, covered = [], [], []
    for answer, truth_j in zip(answers, truths_j, strict=True):
        energy_j = answer["energy_j"]
        if energy_j is None:
            continue
        errors.append((energy_j - truth_j) / truth_j)
        if "low_j" in answer:
            covered.append(answer["low_j"] <= truth_j <= answer["high_j"])
            halves.append((answer["high_j"] - answer["low_j"]) / 2 / truth_j)
    sizes = np.abs(errors)
    given = [answer["energy_j"] for answer in answers if answer["energy_j"] is not None]
    return Cell(
        trials=len(answers),
        median_ratio=float(np.median(sizes)) if errors else None,
        worst_ratio=float(np.max(sizes)) if errors else None,
        refused=len(answers) - len(errors),
        zero_or_negative=sum(not energy_j > 0 for energy_j in given),
        covered_ratio=float(np.mean(covered)) if covered else None,
        width_ratio=float(np.median(halves) / np.percentile(sizes, 95)) if halves else None,
    )


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
            told[name] = run_meter(name, world, timeline, Path(scratch))
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
    """What each meter says of a 6 s window in which the counter is reset or the GPU lost."""
    told_of = "says | true up to it | true in the window"
    lines = [f"| meter | counter reset: {told_of} | GPU lost: {told_of} |", "|---" * 7 + "|"]
    with tempfile.TemporaryDirectory() as scratch:
        for name in meters:
            world = fault_world(seed=seed, fault_s=START_S + FAULT_AFTER_S)
            timeline = Plan(
                marks_s=(0.0, 6.0),
                windows=(("fault", 0, 1),),
                zero_ns=world.origin_ns + round(START_S * 1e9),
            )
            told = run_meter(name, world, timeline, Path(scratch))
            cells = []
            for answer in sorted(told["answers"], key=lambda row: int(row["gpu"])):
                model = SensorModel(world, answer["gpu"])
                fault_ns = world.origin_ns + round((START_S + FAULT_AFTER_S) * 1e9)
                start_ns = answer.get("asked_start_ns", answer["start_ns"])
                end_ns = answer.get("asked_end_ns", answer["end_ns"])
                until_j = model.true_energy_j(start_ns, max(min(fault_ns, end_ns), start_ns))
                whole_j = model.true_energy_j(start_ns, end_ns)
                own_j = model.true_energy_j(answer["start_ns"], answer["end_ns"])
                cells += [_said(answer, own_j), f"{until_j:.1f} J", f"{whole_j:.1f} J"]
            lines.append(f"| {METERS[name]} | {' | '.join(cells)} |")
    return lines


def _said(answer: dict[str, Any], own_j: float) -> str:
    """The answer; *own_j* is what is true between the edges it states, if it states any."""
    if answer["energy_j"] is None:
        return f"nothing ({answer['error'] or 'no value'})"
    text = f"{answer['energy_j']:.1f} J"
    if "asked_end_ns" in answer:
        text += f" over {(answer['end_ns'] - answer['start_ns']) / 1e9:.3f} s (true: {own_j:.1f} J)"
    return ", ".join([text, *answer.get("findings", ())])


def tables(
    table: dict[str, dict[tuple[str, str], Cell]], cells: list[str], lengths_s: tuple[float, ...]
) -> list[str]:
    """Markdown: one table of errors, one of the intervals of joulemark."""
    meters = list(table)
    lines = [
        f"| power | window s | {' | '.join(METERS[name] for name in meters)} |",
        "|---|---|" + "---|" * len(meters),
    ]
    for cell in cells:
        for length_s in lengths_s:
            row = [_errors(table[name].get((cell, f"{length_s:g}"))) for name in meters]
            lines.append(f"| {cell} | {length_s:g} | {' | '.join(row)} |")
    ours = [name for name in ("joulemark", "joulemark_found") if name in meters]
    if not ours:
        return lines
    lines += [
        "",
        "| power | window s | " + " | ".join(METERS[name] for name in ours) + " |",
        "|---|---|" + "---|" * len(ours),
    ]
    for cell in cells:
        for length_s in lengths_s:
            row = [_interval(table[name].get((cell, f"{length_s:g}"))) for name in ours]
            lines.append(f"| {cell} | {length_s:g} | {' | '.join(row)} |")
    return lines


def _errors(cell: Cell | None) -> str:
    if cell is None or cell.median_ratio is None or cell.worst_ratio is None:
        return "no value"
    text = f"{cell.median_ratio:.3%} / {cell.worst_ratio:.3%}"
    notes = [
        f"{number} of {cell.trials} {what}"
        for number, what in ((cell.refused, "refused"), (cell.zero_or_negative, "zero or below"))
        if number
    ]
    return f"{text} ({', '.join(notes)})" if notes else text


def _interval(cell: Cell | None) -> str:
    if cell is None or cell.covered_ratio is None or cell.width_ratio is None:
        return "no value"
    return f"{cell.covered_ratio:.1%} of {cell.trials}, {cell.width_ratio:.2f}"


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
    lines = [f"`python benchmarks/meter.py {' '.join(sys.argv[1:])}`", ""]
    lines += tables(table, cells, lengths_s)
    lines += ["", "| meter | version | CPU, % of one core | over s |", "|---|---|---|---|"]
    lines += [
        f"| {METERS[name]} | {facts['version']} | {facts['cpu_s'] / facts['wall_s']:.2%} "
        f"| {facts['wall_s']:.1f} |"
        for name, facts in told.items()
    ]
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
    print("\n".join(lines))
    if options.write:
        _insert(options.write, lines)


_BEGIN: Final = "<!-- tables: written by benchmarks/meter.py -->"
_END: Final = "<!-- end of tables -->"


def _insert(document: Path, lines: list[str]) -> None:
    text = document.read_text("utf-8")
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    body = "\n".join(lines)
    document.write_text(f"{head}{_BEGIN}\n\n{body}\n\n{_END}{tail}", "utf-8")
    shutil.rmtree(document.parent / "__pycache__", ignore_errors=True)


if __name__ == "__main__":
    main()
