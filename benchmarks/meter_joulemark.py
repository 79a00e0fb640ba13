"""Runs joulemark's own sampler over a schedule of windows, and its arithmetic one GPU at a time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from meter_peers import Schedule

from harness.errors import CoverageError
from harness.integrate import traces, window_energies
from harness.journal import read_journal
from harness.sampler import Sampler
from harness.timeline import POWER_DTYPE, PowerTrace, Window


def main(name: str, schedule_file: str, answer_file: str) -> None:
    """Sample; what `answers` needs goes into *answer_file*, see `meter_peers.main`."""
    planned = name == "joulemark"
    journal = Path(answer_file).with_suffix(".journal")
    sampler = Sampler(journal, [("nvml", {})])
    sampler.start()
    schedule = Schedule(Path(schedule_file))
    schedule.begin()
    stamps = []
    for mark in range(len(schedule.marks_s)):
        schedule.wait_for(mark)
        stamps.append(sampler.mark() if planned else time.perf_counter_ns())
    schedule.end()
    time.sleep(0.5)
    audit = sampler.stop()
    told = {
        "version": f"joulemark {importlib.metadata.version('joulemark')}",
        "wall_s": schedule.wall_s,
        "cpu_s": schedule.cpu_s,
        "power_hz": audit.power_hz,
        "counter_hz": audit.counter_hz,
        "period_error_ms": audit.period_error_ms,
        "missed": audit.missed,
        "journal": journal.name,
        "windows": schedule.windows,
        "stamps": stamps,
        "planned": planned,
    }
    Path(answer_file).write_text(json.dumps(told), encoding="utf-8")


def answers(journal: Path, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Compute every window of every GPU."""
    header, records, _ = read_journal(journal, POWER_DTYPE)
    found = traces(header, records)
    devices = list(dict.fromkeys(trace.channel.device for trace in found))
    jobs = [
        (gpu, [trace for trace in found if trace.channel.device == device], told["windows"])
        for gpu, device in enumerate(devices)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(partial(_answers, stamps=told["stamps"], planned=told["planned"]), jobs)
        return [answer for some in made for answer in some]


def _answers(
    job: tuple[int, list[PowerTrace], list[tuple[int, int]]], *, stamps: list[int], planned: bool
) -> list[dict[str, Any]]:
    gpu, own, windows = job
    return [
        {"window": window, "gpu": gpu} | _answer(own, stamps[i], stamps[j], planned=planned)
        for window, (i, j) in enumerate(windows)
    ]


def _answer(own: list[PowerTrace], start_ns: int, end_ns: int, *, planned: bool) -> dict[str, Any]:
    asked = Window(name="w", start_ns=start_ns, end_ns=end_ns, planned=planned)
    base = {"asked_start_ns": start_ns, "asked_end_ns": end_ns}
    try:
        energy = next(e for e in window_energies(own, asked) if e.boundary == "gpu")
    except CoverageError as error:
        return base | {
            "start_ns": start_ns,
            "end_ns": end_ns,
            "energy_j": None,
            "error": str(error),
        }
    return base | {
        "start_ns": energy.window.start_ns,
        "end_ns": energy.window.end_ns,
        "energy_j": energy.energy_j,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "findings": [f"{x.severity}: {x.code}" for x in energy.findings],
        "error": None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:4])
