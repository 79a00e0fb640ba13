"""
Runs the stages of the protocol within a time budget and packs what they leave.

Each stage is a process group of its own with a deadline, so that one that hangs or crashes costs
its own results only. Stages that are done in the work folder are not run again. After every stage
the output folder holds what there is: at most eight files of at most 16 MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import JoulemarkError

from . import emulated, engine_plan, shapes
from .recording import read_json, write_json

FILE_BYTES = 15 << 20
MOST_FILES = 8
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """
    What a stage may take of the budget.

    Args:
        name: of the stage.
        least_s: it is not begun with less.
        most_s: it is ended after.
    """

    name: str
    least_s: float
    most_s: float


FULL = (
    Share(name="doctor", least_s=20, most_s=40),
    Share(name="meter", least_s=60, most_s=260),
    Share(name="known-work", least_s=40, most_s=110),
    Share(name="engine", least_s=120, most_s=550),
)
DRY = (
    Share(name="doctor", least_s=10, most_s=40),
    Share(name="meter", least_s=30, most_s=150),
    Share(name="known-work", least_s=15, most_s=80),
    Share(name="engine", least_s=60, most_s=150),
)
_TRY_LEAST_S = 40.0
REPORT_S = 45.0
"""Kept for computing and packing at the end."""


def main() -> None:
    """Do as the command line says; exit 1 if a stage failed, 2 if nothing could be run."""
    chosen = _arguments()
    work: Path = chosen.work
    out: Path = chosen.out
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    wanted = [s for s in (DRY if chosen.dry else FULL) if {s.name, "all"} & set(chosen.stages)]
    variables = dict(os.environ)
    if chosen.dry:
        if chosen.again and wanted:
            shutil.rmtree(work / "emulated", ignore_errors=True)
        try:
            variables = emulated.environment(work / "emulated")
        except JoulemarkError as error:
            sys.stderr.write(f"gpu-check: {error}\n")
            sys.exit(2)
    deadline = time.monotonic() + chosen.budget_s - REPORT_S
    failed = False
    for share in wanted:
        if chosen.again:
            shutil.rmtree(work / share.name, ignore_errors=True)
        done = read_json(work / share.name / "stage.json")
        if done and done["status"] == "done":
            _say(f"{share.name}: done before, not run again (--again does)")
            continue
        left = deadline - time.monotonic()
        # A model cut to a few layers is only tried.
        tried = share.name == "engine" and shapes.is_cut(chosen.model)
        least_s = _TRY_LEAST_S if tried else share.least_s
        if left < least_s:
            _say(f"{share.name}: left out: {left:.0f} s are left, it needs {least_s:.0f}")
            _note(work, share.name, "not run", f"{left:.0f} s left, {least_s:.0f} needed")
            failed = True
            continue
        failed |= not _stage(share.name, min(left, share.most_s), chosen, variables)
        _pack(work, out)
    # Whatever happened, what there is gets computed and comes back.
    failed |= not _stage("report", REPORT_S, chosen, variables)
    _pack(work, out)
    for path in sorted(out.iterdir()):
        _say(f"{path.stat().st_size:>12,} {path}")
    sys.exit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.gpu")
    stages = ("doctor", "meter", "known-work", "engine", "report", "all")
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(stages)}")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".build/gpu-out")))
    parser.add_argument("--work", type=Path, help="default: .build/gpu-work, of a dry run its own")
    parser.add_argument("--budget-s", type=float, help="for all together; default 560, dry 355")
    parser.add_argument(
        "--dry", action="store_true", help="emulated GPU, pretended loads, mock engine"
    )
    parser.add_argument(
        "--short", action="store_true", help="the meter's steps at half their length"
    )
    parser.add_argument(
        "--again", action="store_true", help="from the beginning, what is there is dropped"
    )
    parser.add_argument("--engine", choices=("transformers", "vllm", "llama-cpp", "mock"))
    parser.add_argument("--model", help="a shape of shapes.py; for llama-cpp a GGUF file")
    parser.add_argument("--load-s", type=float, help="of each run; default: what the budget allows")
    parser.add_argument(
        "--repeats", type=int, default=engine_plan.REPEATS, help="of each point of the sweep"
    )
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    chosen = parser.parse_args()
    chosen.stages = chosen.stages or ["all"]
    if strange := [name for name in chosen.stages if name not in stages]:
        parser.error(f"there is no stage {strange[0]!r}; choose of {', '.join(stages)}")
    chosen.budget_s = chosen.budget_s or (355.0 if chosen.dry else 560.0)
    chosen.engine = chosen.engine or ("mock" if chosen.dry else "transformers")
    defaults = {"mock": "mock", "vllm": "gpt-oss-120b-mxfp4"}
    chosen.model = chosen.model or defaults.get(chosen.engine, "llama-3.1-8b")
    chosen.work = chosen.work or _ROOT / ".build" / ("gpu-work-dry" if chosen.dry else "gpu-work")
    return chosen


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} gpu-check: {text}\n")
    sys.stdout.flush()


def _note(work: Path, stage: str, status: str, why: str) -> None:
    (work / stage).mkdir(exist_ok=True)
    write_json(work / stage / "stage.json", {"status": status, "failed": [why]})


def _stage(
    name: str, seconds: float, chosen: argparse.Namespace, variables: dict[str, str]
) -> bool:
    """Run one; True if all of it went well."""
    _say(f"{name}: begins, {seconds:.0f} s at most")
    # The stage ends its sweep in good order before it is ended itself.
    inner = max(seconds - 25.0, 30.0) if name == "engine" else seconds
    work, out = str(chosen.work.absolute()), str(chosen.out.absolute())
    argv = [sys.executable, "-m", "benchmarks.gpu.stage", name, "--work", work, "--out", out]
    argv += ["--seconds", f"{inner:.0f}", "--device", chosen.device]
    argv += ["--engine", chosen.engine, "--model", chosen.model]
    argv += ["--repeats", str(chosen.repeats)]
    if chosen.load_s is not None:
        argv += ["--load-s", f"{chosen.load_s:g}"]
    argv += [flag for flag, on in (("--dry", chosen.dry), ("--short", chosen.short)) if on]
    with (chosen.work / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            argv, env=variables, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True,
        )  # fmt: skip
        watch = _Deadline(process, seconds)
        watch.start()
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            log.write(line.encode())
            log.flush()
        code = process.wait()
        watch.cancel()
    if watch.passed:
        _say(f"{name}: ended at its deadline of {seconds:.0f} s; what it had recorded is kept")
        _note(chosen.work, name, "cut at its deadline", f"not done within {seconds:.0f} s")
        return False
    return code == 0


class _Deadline:
    """Ends a process group: asked first, forced ten seconds later."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process = process
        self.passed = False
        self._timers = [
            threading.Timer(seconds, self._end, (signal.SIGTERM,)),
            threading.Timer(seconds + 10, self._end, (signal.SIGKILL,)),
        ]

    def start(self) -> None:
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _end(self, number: int) -> None:
        self.passed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _pack(work: Path, out: Path) -> None:
    """The raw readings and runs as one archive, in pieces if it is large; the log beside it."""
    for old in out.glob("raw.tar.xz*"):
        old.unlink()
    whole = out / "raw.tar.xz"

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        left_out = ("tokenizer.json", "libnvidia-ml.so.1", ".part")
        return None if member.name.endswith(left_out) else member

    with tarfile.open(whole, "w:xz", preset=2) as tar:
        tar.add(work, arcname=work.name, filter=kept)
    if (work / "log.txt").exists():
        shutil.copy(work / "log.txt", out / "log.txt")
    if whole.stat().st_size <= FILE_BYTES:
        return
    # `cat raw.tar.xz.*` joins them again.
    room = MOST_FILES - len([path for path in out.iterdir() if path != whole])
    with whole.open("rb") as source:
        for number in range(room):
            piece = source.read(FILE_BYTES)
            if piece:
                (out / f"raw.tar.xz.{number + 1}").write_bytes(piece)
        if source.read(1):
            _say("the archive is too large to come back whole: carry the work folder in parts")
    whole.unlink()


if __name__ == "__main__":
    main()
