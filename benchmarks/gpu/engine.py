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
from dataclasses import dataclass, replace
from pathlib import Path

from . import emulated, random_weights, shapes, vllm_weights
from .devices import LIVE_VARIABLE

REPEATS = 3
_ENGINE_START_S = {"vllm": 80.0}
_OTHER_START_S = 60.0
_AROUND_A_RUN_S = 14.0
"""Loaded idle, warm-up, drain and the sampler's start."""
_GRACE_S = 20.0
_POINTS = {"vllm": ((8, 64, 128), (8, 64), (64,))}
_OTHER_POINTS = ((8, 32, 64), (8, 64), (32,))
"""Concurrencies, the first that fit the time; ML.ENERGY has published 8 and 64."""
_LENGTHS = {"vllm": (128, 64)}
_OTHER_LENGTHS = (256, 32)
"""Tokens of a prompt and of an answer. Answers are short, because steady state needs three mean
residencies inside the window."""
_LEAST_LOAD_S, _MOST_LOAD_S = 10.0, 30.0
_VLLM = """load_format = "dummy"
max_model_len = 2048
gpu_memory_utilization = 0.94
ready_timeout_s = 240.0
extra_args = ["--compilation-config", '''{
"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY",
"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 48, 64, 96, 128]}''']
environment = {VLLM_USE_FLASHINFER_SAMPLER = "0"}
"""
"""Steps of decoding are replayed as CUDA graphs, without which a card waits for the CPU; nothing is
compiled by Inductor, which would take minutes of a short lease. vLLM 0.24 imports FlashInfer for
its sampler unless it is told not to, whether or not it is there."""


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
        repeats: of each point.
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
    repeats: int = REPEATS


def plan(
    engine: str,
    model: str,
    seconds: float,
    *,
    device: str = "gpu",
    load_s: float | None = None,
) -> Plan:
    """
    Fit a sweep of three concurrencies, three repeats each, into *seconds*; else of fewer.

    With *load_s* three points of runs that long are planned whether they fit or not. A model cut
    to a few layers is only tried: one short run.
    """
    if engine == "mock":
        return Plan(
            engine=engine, model=model, concurrencies=(4, 8, 16), isl_tokens=64, osl_tokens=24,
            load_s=5.5, idle_s=1.5, min_window_s=3.0,
        )  # fmt: skip
    start_s = _ENGINE_START_S.get(engine, _OTHER_START_S)
    for points in _POINTS.get(engine, _OTHER_POINTS):
        room_s = (seconds - start_s) / (len(points) * REPEATS) - _AROUND_A_RUN_S
        if load_s is not None or room_s >= _LEAST_LOAD_S:
            break
    isl_tokens, osl_tokens = _LENGTHS.get(engine, _OTHER_LENGTHS)
    whole = Plan(
        engine=engine,
        model=model,
        concurrencies=(2, 4, 8) if device == "cpu" else points,
        isl_tokens=32 if device == "cpu" else isl_tokens,
        osl_tokens=16 if device == "cpu" else osl_tokens,
        load_s=load_s or min(_MOST_LOAD_S, max(_LEAST_LOAD_S, room_s)),
        idle_s=4.0,
        min_window_s=5.0,
        device=device,
    )
    if shapes.is_cut(model):
        return replace(
            whole, concurrencies=points[:1], load_s=6.0, idle_s=1.5, min_window_s=2.0, repeats=1
        )
    return whole


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
warmup_request_count = {_warmup(chosen)}
endpoint_type = "completions"

[power]
idle_s = {chosen.idle_s}

[window]
kind = "steady"
min_s = {chosen.min_window_s}
refuse_below_s = {chosen.min_window_s}

[sweep]
repeats = {chosen.repeats}
order = "random"

[sweep.grid]
"load.concurrency" = {list(chosen.concurrencies)}
"""


def _warmup(chosen: Plan) -> int:
    """Requests: vLLM compiles kernels for sizes of batch when it first meets them."""
    return max(chosen.concurrencies) if chosen.engine == "vllm" else 8


def _real(folder: Path, chosen: Plan, variables: dict[str, str]) -> str:
    if chosen.engine == "llama-cpp":
        return _llama_cpp(chosen)
    shapes.by_name(chosen.model)
    # The last part of the path is what the roofline and the reader know the model by.
    model = random_weights.write_folder(chosen.model, (folder / chosen.model).absolute())
    common = f'kind = "{chosen.engine}"\nmodel = "{model}"\ndevice = "{chosen.device}"\n'
    programs = (folder / "bin").absolute()
    variables["HF_HUB_OFFLINE"] = "1"
    if chosen.engine == "vllm":
        vllm_weights.write_program(programs)
        for name in ("PATH", "PYTHONPATH"):
            variables[name] = f"{programs}{os.pathsep}{variables.get(name, '')}"
        return f"{common}{_VLLM}max_num_seqs = {max(chosen.concurrencies)}\n"
    random_weights.write_program(programs)
    variables["PATH"] = f"{programs}{os.pathsep}{variables.get('PATH', '')}"
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
