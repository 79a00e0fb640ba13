"""
How near the metered joules are to the true ones, on simulated sensors, many trials a cell.

    python benchmarks/meter_truth.py [--trials 200] [--sensors "ideal,lag 50 ms,…"] [--seed 0]

No process and no waiting: the emulator's sensor model (`harness/emulator/model.py`)
is asked what the sampler would have read, at the instants the sampler would have
read it, and `harness.integrate` does the rest, as in a run.

Columns: worst and median relative error against the true energy between the stated
edges; how many trials' low…high held the truth; the width of low…high over the spread of
the errors, as `meter_tables.width_over_spread` has it; trials that got no joules, and
those with a finding that says how well ticks can be known.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from meter_tables import width_over_spread

from harness.emulator import make, waveform
from harness.emulator.model import SensorModel
from harness.emulator.world import World
from harness.errors import CoverageError
from harness.integrate import window_energies
from harness.timeline import Channel, PowerTrace, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

POWER_HZ, COUNTER_HZ = 50.0, 20.0
GOLDEN = 0.6180339887498949
WAVEFORMS = {
    "constant": lambda r: waveform.constant(power_w=float(r.uniform(100, 690))),
    "square 2 s": lambda r: waveform.square(
        low_w=70, high_w=680, period_s=2.0, phase_s=float(r.uniform(0, 2))
    ),
    "square 100 ms": lambda r: waveform.square(
        low_w=70, high_w=680, period_s=0.1, phase_s=float(r.uniform(0, 0.1))
    ),
    "ramp": lambda r: waveform.ramp(
        low_w=70, high_w=680, period_s=10.0, phase_s=float(r.uniform(0, 10))
    ),
    "decode": lambda r: waveform.decode(
        seed=float(r.integers(1000)), phase_s=float(r.uniform(0, 60))
    ),
}
SENSORS: dict[str, dict[str, float]] = {
    "ideal": {},
    "jitter 1 ms": {"jitter_s": 0.001},
    "jitter 5 ms": {"jitter_s": 0.005},
    "lag 50 ms": {"lag_s": 0.05},
    "lag 100 ms": {"lag_s": 0.1},
    "lag 50 ms, jitter 1 ms": {"lag_s": 0.05, "jitter_s": 0.001},
    "lag 100 ms, jitter 5 ms": {"lag_s": 0.1, "jitter_s": 0.005},
    "20 ms ticks": {"tick_s": 0.02},
}
DURATIONS_S = (0.5, 1.0, 5.0, 30.0)
LEAD_S, TAIL_S = 3.0, 1.0


@dataclass(frozen=True)
class Cell:
    """What came out of the trials of one cell."""

    errors: np.ndarray
    widths: np.ndarray
    covered: float
    refused: int
    warned: int


def _stamps(due_ns: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """When calls due then began and ended: late by a little, tens of microseconds long."""
    before = due_ns + random.exponential(80e3, len(due_ns)).astype(np.int64)
    after = before + random.uniform(30e3, 150e3, len(due_ns)).astype(np.int64)
    # One call at a time.
    before[1:] = np.maximum(before[1:], after[:-1] + 1000)
    return before, np.maximum(after, before + 20_000)


def simulate(
    world: World,
    start_ns: int,
    end_ns: int,
    *,
    planned: bool,
    random: np.random.Generator,
) -> list[PowerTrace]:
    """What the sampler's journal would hold."""
    begin_ns, stop_ns = start_ns - int((LEAD_S + random.random()) * 1e9), end_ns + int(TAIL_S * 1e9)
    power_due = np.arange(begin_ns, stop_ns, int(1e9 / POWER_HZ))
    rounds = np.arange(int((stop_ns - begin_ns) / 1e9 * COUNTER_HZ))
    counter_due = begin_ns + ((rounds + (rounds * GOLDEN) % 1.0) / COUNTER_HZ * 1e9).astype(
        np.int64
    )
    found = []
    for number in range(len(world.gpus)):
        model = SensorModel(world, number)
        due = [counter_due]
        for edge_ns in [begin_ns, *((start_ns, end_ns) if planned else ())]:
            # The first reading after the tick ends the burst; the one at the start goes on.
            tick_ns = int(model.last_tick_ns(edge_ns))
            probe = edge_ns
            while int(model.last_tick_ns(probe)) == tick_ns:
                probe += 1_000_000
            until = probe + 500_000 if edge_ns != begin_ns else edge_ns + 150_000_000
            until = min(until, edge_ns + 150_000_000)
            due.append(np.arange(edge_ns + 100_000, until, 1_000_000))
        before, after = _stamps(np.sort(np.concatenate(due)), random)
        # The value is taken somewhere inside the call.
        taken = before + ((after - before) * random.random(len(before))).astype(np.int64)
        counter = Channel(
            name=f"{number}:energy",
            quantity="energy",
            boundary="gpu",
            device=str(number),
            power_kind="emulated",
            method="simulated",
            quantum=1e-3,
            sense="counter",
        )
        found.append(
            PowerTrace(
                counter, before, after, model.counter_mj(taken) / 1e3, np.zeros(len(taken), "u2")
            )
        )
        before, after = _stamps(power_due, random)
        powers: tuple[tuple[Literal["instant", "average"], Literal[186, 185]], ...] = (
            ("instant", 186),
            ("average", 185),
        )
        for sense, field in powers:
            channel = replace(
                counter,
                name=f"{number}:{sense}",
                quantity="power",
                quantum=None,
                sense=sense,
            )
            found.append(
                PowerTrace(
                    channel,
                    before,
                    after,
                    model.power_mw(before, field=field) / 1e3,
                    np.zeros(len(before), "u2"),
                )
            )
    return found


def run_cell(
    name: str,
    sensor: dict[str, float],
    duration_s: float,
    *,
    planned: bool,
    trials: int,
    gpus: int,
    seed: int = 0,
) -> Cell:
    """All trials of one cell."""
    errors, widths, covered, refused, warned = [], [], 0, 0, 0
    for trial in range(trials):
        random = np.random.default_rng(
            [seed, trial, list(WAVEFORMS).index(name), int(duration_s * 10), planned]
        )
        world = make.with_sensors(
            make.make_world(
                [WAVEFORMS[name](random)],
                gpus=gpus,
                seed=int(random.integers(1 << 31)),
                origin_ns=0,
            ),
            **sensor,
        )
        start_ns = int(20e9 + random.uniform(0, 1e9))
        end_ns = start_ns + int(duration_s * 1e9)
        traces = simulate(world, start_ns, end_ns, planned=planned, random=random)
        window = Window(name="w", start_ns=start_ns, end_ns=end_ns, planned=planned)
        try:
            (energy,) = window_energies(traces, window)
        except CoverageError:
            refused += 1
            continue
        truth = sum(
            SensorModel(world, k).true_energy_j(energy.window.start_ns, energy.window.end_ns)
            for k in range(gpus)
        )
        errors.append(energy.energy_j / truth - 1)
        widths.append((energy.high_j - energy.low_j) / truth)
        covered += energy.low_j <= truth <= energy.high_j
        warned += any(finding.code == "ticks_uncertain" for finding in energy.findings)
    held = covered / max(len(errors), 1)
    return Cell(np.array(errors), np.array(widths), held, refused, warned)


def _named(known: Mapping[str, object], asked: str) -> list[str]:
    """Names may hold commas: a name is chosen where what was asked for, cut at `;`, says it."""
    return [name for name in asked.split(";") if name in known]


def _line(sensor: str, name: str, duration_s: float, planned: bool, cell: Cell) -> str:
    size = np.abs(cell.errors)
    ratio = width_over_spread(cell.errors, cell.widths)
    mark = "" if cell.covered >= 0.95 and ratio <= 3 else " <--"
    return (
        f"| {sensor} | {name} | {duration_s:g} | {'planned' if planned else 'found'}"
        f" | {size.max() * 100:.4f} | {np.median(size) * 100:.4f} | {cell.covered * 100:.1f}"
        f" | {ratio:.2f} | {cell.refused} | {cell.warned} |{mark}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--sensors", default=";".join(SENSORS))
    parser.add_argument("--waveforms", default=";".join(WAVEFORMS))
    parser.add_argument("--durations", default=",".join(map(str, DURATIONS_S)))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| sensor | waveform | window s | edges | worst % | median % | held %", end="")
    print(" | width/spread | refused | warned |\n" + "|---" * 10 + "|")
    began = time.perf_counter()
    chosen = list(
        itertools.product(
            _named(SENSORS, options.sensors),
            _named(WAVEFORMS, options.waveforms),
            map(float, options.durations.split(",")),
            (True, False),
        )
    )
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = [
            pool.submit(
                run_cell,
                name,
                SENSORS[sensor],
                duration_s,
                planned=planned,
                trials=options.trials,
                gpus=options.gpus,
                seed=options.seed,
            )
            for sensor, name, duration_s, planned in chosen
        ]
        for row, future in zip(chosen, made, strict=True):
            print(_line(*row, future.result()), flush=True)
    print(f"\n{options.trials} trials a cell, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
