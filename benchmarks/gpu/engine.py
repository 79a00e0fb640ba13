"""Stage `engine`: sweeps a real engine over concurrencies with joulemark's own `sweep`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from . import emulated, random_weights, shapes, vllm_weights
from .devices import LIVE_VARIABLE
from .engine_plan import Plan, toml

_GRACE_S = 20.0
_VLLM = """load_format = "dummy"
max_model_len = 2048
gpu_memory_utilization = 0.94
prefix_caching = false
ready_timeout_s = 240.0
extra_args = ["--compilation-config", '''{
"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY",
"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32, 48, 64, 96, 128]}''', "--jit-monitor-verbose"]
environment = {VLLM_USE_FLASHINFER_SAMPLER = "0"}
"""
"""Steps of decoding are replayed as CUDA graphs, without which a card waits for the CPU; nothing is
compiled by Inductor, which would take minutes of a short lease. vLLM 0.24 imports FlashInfer for
its sampler unless it is told not to, whether or not it is there. Its log names every Triton kernel
that was first met while requests were served."""
_KERNELS = Path(tempfile.gettempdir()) / "joulemark-triton"
"""Triton's cache: not in the work folder, which is packed."""


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
        if chosen.engine == "vllm" and chosen.device == "gpu" and "gpt-oss" in chosen.model:
            stack.enter_context(_kernels(folder, variables))
        file = folder / "sweep.toml"
        file.write_text(toml(table, chosen), encoding="utf-8")
        say(f"engine: {chosen}")
        with (folder / "sweep.log").open("ab") as log:
            code = _sweep(file, folder, variables, seconds, log.fileno())
    if code == 0:
        return []
    words = "was stopped at its time" if code is None else f"ended with code {code}"
    return [f"the sweep {words}; see sweep.log and the runs' engine.log"]


@contextlib.contextmanager
def _kernels(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """Compile kernels while the engine starts; the end of `kernels.log` says what, or why not."""
    variables["TRITON_CACHE_DIR"] = str(_KERNELS)
    argv = [sys.executable, "-m", "benchmarks.gpu.vllm_kernels"]
    # None of the card is its to take: the engine asks for nearly all of the memory.
    hidden = {**variables, "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "kernels.log").open("ab") as log:
        process = subprocess.Popen(argv, env=hidden, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


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
