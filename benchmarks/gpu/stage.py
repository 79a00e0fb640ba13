"""
Runs one stage of the protocol; started by `check.py` as a process of its own.

    python -m benchmarks.gpu.stage meter --work DIR --seconds 200 [--dry]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import emulated, engine, engine_plan, known_work, meter, report
from .recording import write_json

KNOWN_WORK_S, KNOWN_WORK_DRY_S = 5.5, 2.0


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _doctor(folder: Path, chosen: argparse.Namespace) -> list[str]:
    del chosen
    done = subprocess.run(
        [sys.executable, "-m", "harness", "doctor", "--json"], capture_output=True, check=False
    )
    (folder / "doctor.stderr").write_bytes(done.stderr)
    try:
        diagnosis = json.loads(done.stdout)
    except json.JSONDecodeError:
        return [f"doctor gave no JSON (code {done.returncode}): {done.stderr.decode()[-300:]}"]
    write_json(folder / "doctor.json", diagnosis)
    _say(f"doctor: {diagnosis.get('verdict')}")
    for name in ("nvidia-smi", "nvcc"):
        # For the reader only: the protocol needs neither.
        argv = [name, "-q"] if name == "nvidia-smi" else [name, "--version"]
        try:
            seen = subprocess.run(argv, capture_output=True, timeout=20, check=False).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            seen = str(error).encode()
        (folder / f"{name}.txt").write_bytes(seen)
    return []


def _meter(folder: Path, chosen: argparse.Namespace) -> list[str]:
    return meter.run(folder, meter.SHORT if chosen.dry or chosen.short else meter.FULL, _say)


def _known_work(folder: Path, chosen: argparse.Namespace) -> list[str]:
    seconds = KNOWN_WORK_DRY_S if chosen.dry else KNOWN_WORK_S
    return known_work.run(folder, seconds=seconds, say=_say)


def _engine(folder: Path, chosen: argparse.Namespace) -> list[str]:
    plan = engine_plan.plan(
        chosen.engine,
        chosen.model,
        chosen.seconds,
        device=chosen.device,
        load_s=chosen.load_s,
        repeats=chosen.repeats,
    )
    # A GGUF file's folder is called by the file; any other model's by its shape.
    name = Path(chosen.model).stem if chosen.engine == "llama-cpp" else chosen.model
    return engine.run(folder / name, plan, seconds=chosen.seconds, say=_say)


def _report(folder: Path, chosen: argparse.Namespace) -> list[str]:
    world = emulated.world_file(dict(os.environ))
    results = report.gather(folder.parent, world_file=world)
    report.write(results, chosen.out)
    for verdict in results["law"]:
        _say(f"law {verdict['point']:>2} {verdict['verdict']:<12} {verdict['claim']}")
    return [results[key] for key in results if key.endswith("_problem")]


ACTS: dict[str, Callable[[Path, argparse.Namespace], list[str]]] = {
    "doctor": _doctor,
    "meter": _meter,
    "known-work": _known_work,
    "engine": _engine,
    "report": _report,
}


def main() -> None:
    """Run the stage; its `stage.json` says how it went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=tuple(ACTS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--load-s", type=float)
    parser.add_argument("--repeats", type=int, default=engine_plan.REPEATS)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    chosen = parser.parse_args()
    folder: Path = chosen.work / chosen.stage
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        failed = ACTS[chosen.stage](folder, chosen)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other stages are to run
        traceback.print_exc()
        failed = [f"{type(error).__name__}: {error}"]
    status = "done" if not failed else "failed in part"
    seconds = round(time.monotonic() - began, 1)
    write_json(folder / "stage.json", {"status": status, "failed": failed, "seconds": seconds})
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
