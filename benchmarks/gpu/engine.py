"""Stage `engine`: sweeps a real engine over concurrencies with joulemark's own `sweep`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import emulated, random_weights, shapes
from .devices import LIVE_VARIABLE

REPEATS = 3
_ENGINE_START_S = 60.0
_AROUND_A_RUN_S = 14.0
"""Loaded idle, warm-up, drain and the sampler's start."""
_GRACE_S = 20.0
_POINTS = ((8, 32, 64), (8, 64), (32,))
"""Concurrencies, the first that fit the time; ML.ENERGY has published 8 and 64."""
_LEAST_LOAD_S, _MOST_LOAD_S = 10.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is swept.

    Args:
        engine: `transformers`, `vllm`, `llama-cpp`, or `mock` in a dry run.
        model: a shape of `shapes.py`, or for llama-cpp a GGUF file.
        concurrencies: the points.
        isl_tokens: of a prompt.
        osl_tokens: of an answer.
        load_s: of one run.
        idle_s: the loaded engine is left alone for, before each run.
        min_window_s: a steady window must have; shorter ones give no joules.
        device: `gpu`; `cpu` only to try the way without a card.
    """

    engine: str
    model: str
    concurrencies: tuple[int, ...]
    isl_tokens: int
    osl_tokens: int
    load_s: float
    idle_s: float
    min_window_s: float
    device: str = "gpu"


def plan(engine: str, model: str, seconds: float, *, device: str = "gpu") -> Plan:
    """
    Fit a sweep of three concurrencies, three repeats each, into *seconds*; else of fewer.

    Answers are short, because steady state needs three mean residencies inside the window.
    """
    if engine == "mock":
        return Plan(
            engine=engine, model=model, concurrencies=(4, 8, 16), isl_tokens=64, osl_tokens=24,
            load_s=5.5, idle_s=1.5, min_window_s=3.0,
        )  # fmt: skip
    for points in _POINTS:
        room_s = (seconds - _ENGINE_START_S) / (len(points) * REPEATS) - _AROUND_A_RUN_S
        if room_s >= _LEAST_LOAD_S:
            break
    load_s = min(_MOST_LOAD_S, max(_LEAST_LOAD_S, room_s))
    return Plan(
        engine=engine,
        model=model,
        concurrencies=(2, 4, 8) if device == "cpu" else points,
        isl_tokens=32 if device == "cpu" else 256,
        osl_tokens=16 if device == "cpu" else 32,
        load_s=load_s,
        idle_s=4.0,
        min_window_s=5.0,
        device=device,
    )


def run(folder: Path, chosen: Plan, *, seconds: float, say: Callable[[str], None]) -> list[str]:
    """
    Run the sweep; what an earlier try has done is not done again.

    Returns:
        What failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ)
    with contextlib.ExitStack() as stack:
        if chosen.engine == "mock":
            table = _mock(stack, folder)
        else:
            table = _real(folder, chosen, variables)
        file = folder / "sweep.toml"
        file.write_text(_toml(table, chosen), encoding="utf-8")
        say(f"engine: {chosen}")
        with (folder / "sweep.log").open("ab") as log:
            code = _sweep(file, folder, variables, seconds, log.fileno())
    if code == 0:
        return []
    words = "was stopped at its time" if code is None else f"ended with code {code}"
    return [f"the sweep {words}; see sweep.log and the runs' engine.log"]


def _sweep(
    file: Path, folder: Path, variables: dict[str, str], seconds: float, log: int
) -> int | None:
    """Exit code of `joulemark sweep`; None: it ran out of time, and ended in good order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "sweep", str(file), "--out", str(folder / "sweep")],
        env=variables,
        stdout=log,
        stderr=log,
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        # As Ctrl-C: the run in progress is closed, and the same command would go on from there.
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None


def _toml(engine: str, chosen: Plan) -> str:
    return f"""# Written by benchmarks/gpu/engine.py.
[engine]
{engine}
[workload]
kind = "synthetic"
isl_tokens = {chosen.isl_tokens}
osl_tokens = {chosen.osl_tokens}

[load]
pattern = "concurrency"
concurrency = {chosen.concurrencies[0]}
duration_s = {chosen.load_s}
warmup_request_count = 8
endpoint_type = "completions"

[power]
idle_s = {chosen.idle_s}

[window]
kind = "steady"
min_s = {chosen.min_window_s}
refuse_below_s = {chosen.min_window_s}

[sweep]
repeats = {REPEATS}
order = "random"

[sweep.grid]
"load.concurrency" = {list(chosen.concurrencies)}
"""


def _real(folder: Path, chosen: Plan, variables: dict[str, str]) -> str:
    if chosen.engine == "llama-cpp":
        return _llama_cpp(chosen)
    shapes.by_name(chosen.model)
    # The last part of the path is what the roofline and the reader know the model by.
    model = random_weights.write_folder(chosen.model, (folder / chosen.model).absolute())
    common = f'kind = "{chosen.engine}"\nmodel = "{model}"\ndevice = "{chosen.device}"\n'
    if chosen.engine == "vllm":
        # Compiling graphs takes minutes of a short lease; joules are then those of eager steps.
        return (
            f'{common}load_format = "dummy"\nenforce_eager = true\nmax_model_len = 2048\n'
            f"max_num_seqs = {max(chosen.concurrencies)}\nready_timeout_s = 400.0\n"
        )
    programs = (folder / "bin").absolute()
    random_weights.write_program(programs)
    variables["PATH"] = f"{programs}{os.pathsep}{variables.get('PATH', '')}"
    variables["HF_HUB_OFFLINE"] = "1"
    # Without a FlashAttention package the scores of a step are a matrix in memory, steps by cache:
    # with its own choice a CPU took minutes for its first tokens. Small steps, and on a card room
    # beside the cache.
    limits = (
        'cb_num_blocks = 32\nextra_args = ["--cb-max-batch-tokens", "256"]\n'
        if chosen.device == "cpu"
        else 'extra_args = ["--cb-max-batch-tokens", "1024", "--cb-max-memory-percent", "0.5"]\n'
    )
    return f"{common}random_weights = true\ncontinuous_batching = true\n{limits}"


def _llama_cpp(chosen: Plan) -> str:
    """A llama-server that the caller has started: it is attached to."""
    url = os.environ.get("LLAMA_SERVER_URL", "http://127.0.0.1:8080")
    return (
        f'kind = "attach"\nurl = "{url}"\nmodel = "{Path(chosen.model).stem}"\n'
        f'server = "llama_cpp"\nruns_on = "{chosen.device}"\n'
    )


def _mock(stack: contextlib.ExitStack, folder: Path) -> str:
    """Start our own mock server, and an emulated power that follows its counters."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = stack.enter_context((folder / "mock.log").open("ab"))
    argv = [sys.executable, "-m", "harness", "mock", "--port", str(port), "--ttft", "0.1"]
    server = subprocess.Popen([*argv, "--itl", "0.02"], stdout=log, stderr=log)
    stack.callback(server.wait)
    stack.callback(server.terminate)
    url = f"http://127.0.0.1:{port}"
    _await(url)
    live = Path(os.environ[LIVE_VARIABLE])
    stack.enter_context(emulated.Follower(f"{url}/metrics", live))
    return f'kind = "attach"\nurl = "{url}"\nmodel = "mock"\nserver = "vllm"\nruns_on = "gpu"\n'


def _await(url: str, *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/health", timeout=2).close()  # noqa: S310 - our own
            return
        time.sleep(0.1)
    msg = f"{url} did not answer within {timeout_s:g} s"
    raise RuntimeError(msg)


def done_runs(folder: Path) -> Iterator[Path]:
    """Folders of the runs of a sweep."""
    runs = folder / "sweep" / "runs"
    if runs.is_dir():
        yield from sorted(path for path in runs.iterdir() if path.is_dir())
