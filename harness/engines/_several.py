"""Runs several programs as one engine until the first ends: `python -m` this file, and a plan."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_POLL_S: Final = 0.1
_SHOWN: Final = 200
MODULE: Final = "harness.engines._several"


def plan_of(argv: Sequence[str]) -> dict[str, Any]:
    """
    What a command line really starts, for people.

    Args:
        argv: of a LaunchSpec.

    Returns:
        `programs` (each with `argv` and `environment`), `files`, `folders` and
        `afterwards`; *argv* itself as the one program where it is no plan of ours.
    """
    if MODULE not in argv:
        programs = [{"argv": list(argv), "environment": {}}]
        return {"programs": programs, "files": {}, "folders": [], "afterwards": []}
    plan: dict[str, Any] = json.loads(argv[-1])
    return plan


def main(plan: dict[str, Any]) -> int:
    """
    Start all; wait until the first ends or SIGTERM comes; then end what runs.

    The guard above us ends stray processes, but a container is not below it:
    its client is, and when that is killed the container goes on. So each is
    removed by its name, whatever ended the engine.

    Returns:
        The exit code of the program that ended first, 128 + N if signal N ended it.
    """
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    _tidy(plan)
    for folder in plan["folders"]:
        Path(folder).mkdir(parents=True)
    for path, content in plan["files"].items():
        Path(path).write_text(content, encoding="utf-8")
    running = [
        subprocess.Popen(
            program["argv"], env={**os.environ, **program["environment"]}, stdin=subprocess.DEVNULL
        )
        for program in plan["programs"]
    ]
    ended: subprocess.Popen[bytes] | None = None
    while not told and ended is None:
        ended = next((process for process in running if process.poll() is not None), None)
        time.sleep(_POLL_S)
    for process in running:
        process.terminate()
    removing = [
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for argv in plan["afterwards"]
    ]
    for process in [*removing, *running]:
        process.wait()
    _tidy(plan)
    if ended is None:
        return 128 + signal.SIGTERM
    # What the others say while they shut down stands behind the reason in the log.
    program = plan["programs"][running.index(ended)]["argv"]
    sys.stderr.write(f"fatal error: ended first: {' '.join(program)[:_SHOWN]}\n")
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


def _tidy(plan: dict[str, Any]) -> None:
    """Remove what an engine leaves, also one that was killed before it could."""
    for path in plan["files"]:
        Path(path).unlink(missing_ok=True)
    for folder in plan["folders"]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
