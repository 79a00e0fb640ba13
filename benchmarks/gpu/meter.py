"""
Stage `meter`: records what the sensors of a card do while loads of known shape run on it.

Each step leaves its readings (a journal) and what was done meanwhile (JSON) in the stage's
folder; a step that is there already is not repeated. Nothing is computed here: `meter_results.py`
does that from the files, on the same machine or another.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import calls, polls
from .loads import Worker
from .recording import read_json, recorded, write_json

RATES_HZ = (5.0, 50.0, 200.0)
LOADS = ("idle", "memory", "compute")
PHASES = (0.0, 0.25, 0.5, 0.75)
AIMED, AIMED_S = "compute_aimed", 13.0
"""The load under which reads are aimed at ticks, as they are in use, and for how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """
    How long each step takes, in seconds, start of its sampler not included.

    Args:
        ticks_s: quick polling under load.
        rate_s: one of two stretches at each polling rate.
        half_period_s: of the slow square load; no multiple of a tick, so that phases vary.
        steps: periods of it.
        window_s: under each of the three loads.
        durations_s: of the windows that are cut from it.
        locked_s: at each phase of the quick square load.
    """

    ticks_s: float
    rate_s: float
    half_period_s: float
    steps: int
    window_s: float
    durations_s: tuple[float, ...]
    locked_s: float


FULL = Lengths(
    ticks_s=8.0,
    rate_s=4.0,
    half_period_s=2.03,
    steps=4,
    window_s=23.0,
    durations_s=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
    locked_s=4.5,
)
SHORT = Lengths(
    ticks_s=4.0,
    rate_s=2.0,
    half_period_s=1.57,
    steps=2,
    window_s=7.0,
    durations_s=(0.5, 1.0, 2.0, 5.0),
    locked_s=2.5,
)


def run(folder: Path, lengths: Lengths, say: Callable[[str], None]) -> list[str]:
    """
    Record every step that is not there yet.

    Returns:
        What failed, a line each; the steps after a failure are still tried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "lengths.json", {"durations_s": lengths.durations_s})
    failed: list[str] = []

    def step(name: str, act: Callable[[], None]) -> None:
        if (folder / f"{name}.json").exists():
            say(f"meter: {name} is there already")
            return
        began = time.monotonic()
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the other steps are worth having without it
            failed.append(f"{name}: {type(error).__name__}: {error}")
            say(f"meter: {failed[-1]}")
        else:
            say(f"meter: {name} done in {time.monotonic() - began:.1f} s")

    # Idle first: with a CUDA context up, the card's clocks and watts are others.
    step("bare_idle", lambda: _bare_idle(folder, lengths.rate_s))
    step("calls_idle", lambda: calls.record(folder / "calls_idle.json"))
    # The most valuable first: a cut then costs the least.
    with Worker() as worker:
        write_json(folder / "worker.json", worker.facts)
        for load in LOADS:
            step(
                f"window_{load}",
                lambda load=load: _hold(folder, f"window_{load}", worker, load, lengths.window_s),
            )
        seconds = min(lengths.window_s, AIMED_S)
        step(
            f"window_{AIMED}",
            lambda: _hold(folder, f"window_{AIMED}", worker, "compute", seconds, aim=True),
        )
        step("steps", lambda: _steps(folder, worker, lengths))
        step("ticks", lambda: _ticks(folder, worker, lengths.ticks_s))
        step("polls", lambda: polls.record(folder, worker, lengths.ticks_s))
        for phase in PHASES:
            step(
                f"locked_{phase:g}",
                lambda phase=phase: _locked(folder, worker, phase, lengths.locked_s),
            )
        order = [(rate, turn) for turn in range(2) for rate in RATES_HZ]
        random.Random(1).shuffle(order)  # noqa: S311 - reproducible, not secret
        for rate, turn in order:
            step(
                f"rate_{rate:g}_{turn}",
                lambda rate=rate, turn=turn: _rate(folder, worker, rate, turn, lengths.rate_s),
            )
        step("calls_loaded", lambda: _calls_loaded(folder, worker))
    return failed


def _bare_idle(folder: Path, seconds: float) -> None:
    with recorded(folder, "bare_idle") as (sampler, step):
        start_ns = sampler.mark()
        time.sleep(seconds)
        step["window_ns"] = [start_ns, sampler.mark()]


def _hold(
    folder: Path, name: str, worker: Worker, load: str, seconds: float, *, aim: bool = False
) -> None:
    with recorded(folder, name, aim=aim) as (_, step):
        step["load"] = worker.hold(load, seconds)


def _steps(folder: Path, worker: Worker, lengths: Lengths) -> None:
    with recorded(folder, "steps", power_hz=200.0, counter_hz=100.0) as (_, step):
        worker.hold("idle", lengths.half_period_s)
        half = lengths.half_period_s
        step["load"] = worker.square(
            "compute", on_s=half, off_s=half, seconds=2 * half * lengths.steps
        )
        # The last fall is held as long as the others.
        worker.hold("idle", half)


def _ticks(folder: Path, worker: Worker, seconds: float) -> None:
    with recorded(folder, "ticks", power_hz=500.0, counter_hz=200.0) as (_, step):
        step["load"] = worker.square("compute", on_s=0.33, off_s=0.2, seconds=seconds)


def _locked(folder: Path, worker: Worker, phase: float, seconds: float) -> None:
    """A square of 100 ms, each time shifted against the sensor's ticks of about 100 ms."""
    with recorded(folder, f"locked_{phase:g}") as (_, step):
        origin_ns = read_json(folder / "locked_0.json") if phase else None
        base_ns = origin_ns["base_ns"] if origin_ns else time.perf_counter_ns()
        period_ns = 100_000_000
        soon_ns = time.perf_counter_ns() + 200_000_000
        turns = -(-(soon_ns - base_ns) // period_ns)
        start_ns = base_ns + turns * period_ns + int(phase * period_ns)
        step["base_ns"], step["phase"] = base_ns, phase
        step["load"] = worker.square(
            "compute", on_s=0.05, off_s=0.05, seconds=seconds, start_at_ns=start_ns
        )


def _rate(folder: Path, worker: Worker, rate_hz: float, turn: int, seconds: float) -> None:
    name = f"rate_{rate_hz:g}_{turn}"
    with recorded(folder, name, power_hz=rate_hz, counter_hz=rate_hz) as (sampler, step):
        # Announced edges: their bursts place them as well at 5 Hz as at 200.
        start_ns = sampler.mark()
        step["load"] = worker.hold("idle", seconds)
        step["window_ns"] = [start_ns, sampler.mark()]


def _calls_loaded(folder: Path, worker: Worker) -> None:
    # One pipe, one order at a time: the calls are timed while the answer is waited for.
    load = threading.Thread(target=worker.hold, args=("compute", 4.0))
    load.start()
    time.sleep(0.5)
    try:
        calls.record(folder / "calls_loaded.json")
    finally:
        load.join()
