"""
What aimed reads of slow counters are worth beside dithered ones, in simulated time.

    python -m benchmarks.meter_slow [--gpus 1,8] [--trials 40] [--seed 0]
    python -m benchmarks.meter_slow --replay docs/measurements/…/counter-polls-2.npz

No process and no waiting: the sampler's own schedule (`harness/aim.py`) is driven by a clock of
ours, and so are the dithered rounds that it replaces. A device is the emulator's sensor model,
or recorded readings played back. Power waits for a counter that is read at dithered times;
aimed reads have a thread, and what power's period error is beside them is not simulated.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.gpu import polls
from benchmarks.slow_reads import (
    WAVEFORMS,
    Modelled,
    Sampled,
    aimed,
    dithered,
    power_traces,
    recorded,
    trace,
    worlds,
)
from harness.emulator.model import SensorModel
from harness.errors import CoverageError
from harness.integrate import window_energies
from harness.timeline import PowerTrace, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the trials of one cell came to."""

    reads_hz: float
    busy_ratio: float
    period_error_ms: float | None
    worst: float
    median: float
    half_width: float
    held: float
    refused: int
    aimed: float


def row(
    way: str,
    *,
    gpus: int,
    load: str,
    duration_s: float,
    planned: bool,
    trials: int,
    seed: int,
    read_ms: float = 3.3,
    tail: bool = False,
    **sensor: float,
) -> Row:
    """All trials of one cell."""
    runs: list[Sampled] = []
    errors, halves, held, refused, share = [], [], 0, 0, []
    for trial in range(trials):
        random = np.random.default_rng([seed, trial, gpus, planned])
        world = worlds(random, load, gpus, **sensor)
        models = [SensorModel(world, k) for k in range(gpus)]
        devices = [Modelled(model, int(read_ms * 1e6), random, tail) for model in models]
        begin_ns = int(5e9 + random.uniform(0, 1e9))
        start_ns = begin_ns + int((8 + random.random()) * 1e9)
        end_ns = start_ns + int(duration_s * 1e9)
        marks = (start_ns, end_ns) if planned else ()
        found = WAYS[way](devices, begin_ns, end_ns + 1_000_000_000, marks)
        runs.append(found)
        if found.aims is not None:
            share += [a.aimed_s(end_ns + 10**9) / found.lasted_s for a in found.aims.all_aims]
        window = Window(name="w", start_ns=start_ns, end_ns=end_ns, planned=planned)
        counters = [trace(reads, str(k)) for k, reads in enumerate(found.reads)]
        try:
            (energy,) = window_energies([*counters, *power_traces(found, models)], window)
        except CoverageError:
            refused += 1
            continue
        edges = energy.window.start_ns, energy.window.end_ns
        truth = sum(model.true_energy_j(*edges) for model in models)
        errors.append(abs(energy.energy_j / truth - 1))
        halves.append((energy.high_j - energy.low_j) / 2 / truth)
        held += energy.low_j <= truth <= energy.high_j
    late_ms = [run.period_error_ms for run in runs if run.period_error_ms is not None]
    return Row(
        reads_hz=float(np.mean([run.reads_hz for run in runs])),
        busy_ratio=float(np.mean([run.busy_ratio for run in runs])),
        period_error_ms=float(np.median(late_ms)) if late_ms else None,
        worst=max(errors, default=np.nan),
        median=float(np.median(errors)) if errors else np.nan,
        half_width=float(np.median(halves)) if halves else np.nan,
        held=held / max(len(errors), 1),
        refused=refused,
        aimed=float(np.mean(share)) if share else 0.0,
    )


def _late(found: Row | Sampled, digits: int) -> str:
    """The period error of power, or nothing where it was not simulated."""
    late_ms = found.period_error_ms
    return "" if late_ms is None else f"{late_ms:.{digits}f}"


def replay(path: Path) -> list[str]:
    """Rows of a table: an archive played back, all of it, dithered and aimed; windows of it."""
    device, every = recorded(path), polls.trace(path, "measured")
    with np.load(path) as found:
        rows = found["power"]
    one = trace([(0, 1, 0.0)]).channel
    status = np.zeros(len(rows), "u2")
    power = PowerTrace(
        replace(one, quantity="power", quantum=None, sense="instant"),
        rows[:, 0],
        rows[:, 1],
        rows[:, 2] / 1e3,
        status,
    )
    begin_ns, end_ns = int(device.start_ns[0]), int(device.start_ns[-1])
    runs = {way: run([device], begin_ns, end_ns) for way, run in WAYS.items()}
    channels = {"all reads": replace(every, channel=one)}
    channels |= {way: trace(run.reads[0]) for way, run in runs.items()}
    lines = []
    for way, counter in channels.items():
        run = runs.get(way)
        cost = (
            " | | | "
            if run is None
            else (f" | {run.reads_hz:.1f} | {run.busy_ratio:.1%} | {_late(run, 1)}")
        )
        ticks = len(np.unique(counter.value)) - 1
        cells = []
        for duration_s in (0.5, 2.0, 5.0):
            halves, errors, held = [], [], 0
            for start in np.linspace(begin_ns + 4e9, end_ns - 7e9, 8).astype(int):
                window = Window(name="w", start_ns=int(start), end_ns=int(start + duration_s * 1e9))
                (energy,) = window_energies([counter, power], window)
                edges = [energy.window.start_ns, energy.window.end_ns]
                before, after = np.interp(edges, device.tick_ns[1:], device.tick_j[1:])
                truth = float(after - before)
                halves.append((energy.high_j - energy.low_j) / 2 / truth)
                errors.append(abs(energy.energy_j / truth - 1))
                held += energy.low_j <= truth <= energy.high_j
            cells.append(f"{np.median(halves):.3%}, {max(errors):.3%}, {held}/8")
        lines.append(f"| {way} | {len(counter.value)}{cost} | {ticks} | {' | '.join(cells)} |")
    return lines


WAYS: Final = {"dithered": dithered, "aimed": aimed}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpus", default="1,8")
    parser.add_argument("--loads", default=";".join(WAVEFORMS))
    parser.add_argument("--durations", default="0.5,5")
    parser.add_argument("--edges", default="planned,found")
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--tail", action="store_true", help="some reads take up to 7 times as long")
    parser.add_argument("--replay", type=Path, help="an archive of back-to-back reads instead")
    options = parser.parse_args()
    if options.replay:
        print("| reads | number | a second | busy | period error p99 ms | ticks seen", end="")
        print(" | 0.5 s: half width, worst error, held | 2 s | 5 s |\n" + "|---" * 9 + "|")
        print("\n".join(replay(options.replay)))
        return
    head = "GPUs | load | window s | edges | way | reads/s | busy % | period error p99 ms"
    head = f"| {head} | aimed % | worst % | median % | half width % | held % | refused |"
    print(head + "\n" + "|---" * 14 + "|")
    sensor = {"jitter_s": options.jitter_ms / 1e3} if options.jitter_ms else {}
    for gpus, load, duration_s, edges, way in itertools.product(
        map(int, options.gpus.split(",")),
        options.loads.split(";"),
        map(float, options.durations.split(",")),
        options.edges.split(","),
        ("dithered", "aimed"),
    ):
        found = row(
            way,
            gpus=gpus,
            load=load,
            duration_s=duration_s,
            planned=edges == "planned",
            trials=options.trials,
            seed=options.seed,
            tail=options.tail,
            **sensor,
        )
        print(
            f"| {gpus} | {load} | {duration_s:g} | {edges} | {way} | {found.reads_hz:.1f}"
            f" | {found.busy_ratio * 100:.1f} | {_late(found, 2)}"
            f" | {found.aimed * 100:.0f} | {found.worst * 100:.4f} | {found.median * 100:.4f}"
            f" | {found.half_width * 100:.4f} | {found.held * 100:.1f} | {found.refused} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
