"""Runs joulemark on an engine in an environment of its own, and kills that engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
# 1k/1k scaled down, so that a tiny model on two busy cores ends in seconds.
SMALL = (
    "-s", "load.request_count=12", "-s", "load.concurrency=3", "-s", "load.warmup_request_count=3",
    "-s", 'power.sources=["cpu_model"]', "-s", "power.idle_s=1", "-s", "window.kind=run",
    "-s", "window.refuse_below_s=0.2", "-s", "window.min_s=0.5", "--isl", "64", "--osl", "32",
)  # fmt: skip
CONFIG = """
[workload]
kind = "inferencex"
prompts = "tokens"
vocab_tokens = 2000

[load]
pattern = "concurrency"
"""


def environment(venv: Path) -> dict[str, str]:
    """Ours, with the engine's programs first on PATH and nothing looked up on the network."""
    if not (venv / "bin" / "python").exists():
        pytest.fail(f"{venv} is not there: run its script in tests/heavy first")
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_COLOR": "1"}
    return {**os.environ, **offline, "PATH": path, "PYTHONPATH": str(ROOT)}


def command(base: Path, *more: str) -> list[str]:
    config = base / "heavy.toml"
    config.write_text(CONFIG)
    return [sys.executable, "-m", "harness", "run", str(config), *SMALL, *more]


def finish(base: Path, venv: Path, *more: str, prefix: tuple[str, ...] = ()) -> dict:
    """The record of a run that came to its end."""
    done = subprocess.run(
        [*prefix, *command(base, "--json", *more)],
        cwd=base, env=environment(venv), capture_output=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:] + logs(base)
    return json.loads(done.stdout)


def kill_mid_run(
    base: Path, venv: Path, *more: str, victim: str, prefix: tuple[str, ...] = ()
) -> tuple[dict, str]:
    """
    Start a long run, kill the engine's processes once requests finish, wait for the end.

    Args:
        base: an empty folder.
        venv: the engine's.
        more: further options.
        victim: in the command lines of what is killed.
        prefix: in front of the command.

    Returns:
        The record and what was printed; every process of the run is gone.
    """
    harness = subprocess.Popen(
        [*prefix, *command(base, "-s", "load.request_count=100000", *more)],
        cwd=base, env=environment(venv), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 480
    while not finished_requests(base) >= 6:
        assert harness.poll() is None, (harness.stderr.read()[-3000:], logs(base))
        assert time.monotonic() < deadline, logs(base)
        time.sleep(0.1)
    family = psutil.Process(harness.pid).children(recursive=True)
    for child in family:
        # The supervisor names them all in its plan; it must live to tell of the end.
        words = child.cmdline()
        if victim in " ".join(words) and "harness" not in " ".join(words[:4]):
            child.kill()
    _, stderr = harness.communicate(timeout=120)
    assert harness.returncode == 2, stderr[-3000:]
    left = psutil.wait_procs(family, timeout=30)[1]
    assert not left, f"still running: {left}"
    (folder,) = (base / "runs").iterdir()
    return json.loads((folder / "run.json").read_bytes()), stderr.decode()


def finished_requests(base: Path) -> int:
    return sum(
        path.read_bytes().count(b'"measure"') for path in (base / "runs").glob("*/requests.jsonl")
    )


def logs(base: Path) -> str:
    found = [path.read_text()[-3000:] for path in (base / "runs").glob("*/engine.log")]
    return "\n--- engine.log\n".join(["", *found])


def check_killed(record: dict, printed: str) -> None:
    """A marked record, a message that says what happened, no traceback."""
    assert record["status"] == "incomplete"
    assert "incomplete" in {finding["code"] for finding in record["findings"]}
    assert record["tokens"]["requests"] >= 6
    assert "the engine" in printed
    assert "what was recorded is in" in printed
    assert "Traceback" not in printed
