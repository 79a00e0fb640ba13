"""Holds joulemark's client and its peers against one mock: CPU a token, and error of each number.

    python benchmarks/load.py --venvs DIR                         # all cells of PLAN
    python benchmarks/load.py --venvs DIR --streams 256 --mode batch --repeats 5 --tools joulemark
    python benchmarks/load.py --table runs.jsonl

DIR holds one virtual environment a peer (`v_aiperf`, `v_guide`, `v_infperf`, `v_vllm`) and a
tokenizer `tok`; `--make-venvs` makes those that are missing. Peers that are not there are left
out, and said so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from load_peers import TOOLS, Job
from load_table import table
from load_venvs import make_venvs

from harness.arrivals import Arrivals
from harness.contracts import Endpoint
from harness.journal import JournalWriter, read_journal
from harness.load.loop import run
from harness.load.plan import LoadPlan
from harness.load.progress import LoadProgress
from harness.load.trial import mock_process
from harness.mock.settings import MockSettings
from harness.mock.writelog import WriteKind, read_write_log
from harness.timeline import EVENT_DTYPE, EventKind, Request

OSL = 200
PROMPT = "How many joules does a token cost on this machine? " * 8
LIGHT = ("joulemark", "vllm")
"""Tools that start in a second: their short run is repeated with each long one."""
HEAVY = ("aiperf", "guidellm", "inference-perf")
PLAN = (
    # repeats, mode, streams, tools
    (5, "batch", 256, (*LIGHT, *HEAVY)),
    (5, "stagger", 256, LIGHT),
    (1, "stagger", 256, HEAVY),
    (1, "batch", 64, LIGHT),
    (1, "stagger", 64, LIGHT),
    (1, "batch", 1024, LIGHT),
    (1, "stagger", 1024, LIGHT),
    (1, "batch", 64, HEAVY),
    (1, "batch", 1024, HEAVY),
)
"""Sized for 25 minutes on two idle cores; the cell that is quoted has five runs of each."""
TIMEOUT_S = 400


def waves(tool: str, streams: int) -> tuple[int, int]:
    """Requests a stream of the short and of the long run; the difference is free of start-up."""
    if tool == "joulemark" or streams <= 64:
        return 1, 5
    return 1, 2 if tool in HEAVY and streams > 256 else 3  # slow ones would take minutes


def one(url: str, streams: int, count: int, osl: int, out: str) -> None:
    """One run of joulemark's client, as a process that does nothing else."""
    folder = Path(out)
    journal = JournalWriter(folder / "events", EVENT_DTYPE, {})
    traces = []
    plan = LoadPlan(
        endpoint=Endpoint(base_url=url, endpoint_type="chat", model="mock"),
        requests=(Request(index=i, prompt=PROMPT, max_osl_tokens=osl) for i in itertools.count()),
        phase="measure",
        arrivals=Arrivals(pattern="concurrency", concurrency=streams),
        request_count=count,
        duration_s=None,
        request_timeout_s=300,
        fixed_length={"ignore_eos": True},
    )
    audit = run(
        plan,
        journal=journal,
        on_result=traces.append,
        progress=LoadProgress(),
        stop=threading.Event(),
    )
    journal.close()
    rows = read_journal(folder / "events", EVENT_DTYPE)[1]
    rows = rows[rows["kind"] == EventKind.CHUNK]
    order = np.argsort(rows["request"], kind="stable")
    same = np.diff(rows["request"][order]) == 0
    gaps = np.diff(rows["t_ns"][order])[same] / 1e6
    ttft = [(t.t_first_ns - t.t_sent_ns) / 1e6 for t in traces]
    tpot = [(t.t_last_ns - t.t_first_ns) / 1e6 / (t.osl_tokens - 1) for t in traces]
    result = {
        "ttft_p50_ms": float(np.quantile(ttft, 0.5)),
        "ttft_p99_ms": float(np.quantile(ttft, 0.99)),
        "tpot_mean_ms": statistics.mean(tpot),
        "itl_p50_ms": float(np.quantile(gaps, 0.5)),
        "itl_p99_ms": float(np.quantile(gaps, 0.99)),
        "loop_cpu_ms_per_1000": audit.loop_cpu_s * 1e6 / len(rows),
    }
    (folder / "result.json").write_text(json.dumps(result))


def truth(log: Path) -> dict[str, float]:
    """What the mock wrote: times of whole answers only, so that probes do not count."""
    rows = read_write_log(log)
    wrote = rows[rows["kind"] == WriteKind.TOKENS]
    received = rows[rows["kind"] == WriteKind.RECEIVED]
    received = dict(zip(received["number"], received["t_ns"], strict=True))
    order = np.argsort(wrote["number"], kind="stable")
    cuts = np.flatnonzero(np.diff(wrote["number"][order])) + 1
    ttft, tpot, gaps, tokens, edges = [], [], [], 0, []
    for part in np.split(wrote[order], cuts):
        if len(part) == OSL:
            times = part["t_ns"]
            ttft.append((times[0] - received[part["number"][0]]) / 1e6)
            tpot.append((times[-1] - times[0]) / 1e6 / (OSL - 1))
            gaps.append(np.diff(times) / 1e6)
            tokens += OSL
            edges += [times[0], times[-1]]
    every = np.concatenate(gaps)
    return {
        "requests": len(ttft),
        "tokens": tokens,
        "tok_per_s": tokens / ((max(edges) - min(edges)) / 1e9),
        "ttft_p50_ms": float(np.quantile(ttft, 0.5)),
        "ttft_p99_ms": float(np.quantile(ttft, 0.99)),
        "tpot_mean_ms": statistics.mean(tpot),
        "itl_p50_ms": float(np.quantile(every, 0.5)),
        "itl_p99_ms": float(np.quantile(every, 0.99)),
    }


def lags(out: Path, log: Path) -> dict[str, float]:
    """How late our stamps are, token by token: only joulemark keeps them all."""
    events = read_journal(out / "events", EVENT_DTYPE)[1]
    events = events[events["kind"] == EventKind.CHUNK]
    rows = read_write_log(log)
    wrote = rows[rows["kind"] == WriteKind.TOKENS]
    ours = events["t_ns"][np.argsort(events["request"], kind="stable")]
    theirs = wrote["t_ns"][np.argsort(wrote["index"], kind="stable")]
    p50, p99 = np.quantile((ours - theirs) / 1e6, [0.5, 0.99])
    return {"lag_p50_ms": float(p50), "lag_p99_ms": float(p99)}


def run_tool(tool: str, venvs: Path, mode: str, streams: int, count: int) -> dict:
    """One run against a fresh mock; CPU is user and system of the tool and all its children."""
    with tempfile.TemporaryDirectory(prefix="bench-load-") as name:
        folder = Path(name)
        out = folder / "out"
        out.mkdir()
        with mock_process(MockSettings(batch=mode == "batch"), folder / "writes") as endpoint:
            job = Job(
                url=endpoint.base_url, streams=streams, requests=streams * count, osl=OSL, out=out
            )
            command, report = TOOLS[tool]
            environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    command(venvs, job), stdout=log, stderr=subprocess.STDOUT, env=environment
                )
                timer = threading.Timer(TIMEOUT_S, process.kill)
                timer.start()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                timer.cancel()
        if process.returncode:
            tail = (folder / "log").read_text(errors="replace")[-600:]
            return {"failed": f"exit {process.returncode}: {tail}"}
        try:
            own = lags(out, folder / "writes") if tool == "joulemark" else {}
            return {
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "reported": report(job) | own,
                "true": truth(folder / "writes"),
            }
        except (OSError, KeyError, TypeError, ValueError) as error:
            return {"failed": f"{error!r}"}


def measure(
    tool: str, mode: str, streams: int, *, venvs: Path, repeat: int, shorts: dict[tuple, dict]
) -> dict:
    """
    A short and a long run; the slope between them is the cost of a token.

    The short run of a heavy tool is done once a cell and kept in *shorts*: it takes
    as long as the long one, and what it says is small beside it.
    """
    row = {"tool": tool, "mode": mode, "streams": streams, "repeat": repeat}
    row |= {"load_average": os.getloadavg()[0], "t_wall": time.time()}
    few, many = waves(tool, streams)
    short = shorts.get((tool, mode, streams)) if tool in HEAVY else None
    if short is None or "failed" in short:
        short = shorts[tool, mode, streams] = run_tool(tool, venvs, mode, streams, few)
    long = run_tool(tool, venvs, mode, streams, many)
    if "failed" in short or "failed" in long:
        return row | {"failed": short.get("failed") or long.get("failed")}
    tokens = long["true"]["tokens"] - short["true"]["tokens"]
    row["cpu_ms_per_1000_tokens"] = (long["cpu_s"] - short["cpu_s"]) * 1e6 / tokens
    short_tokens_cpu_s = row["cpu_ms_per_1000_tokens"] * short["true"]["tokens"] / 1e6
    row["startup_cpu_s"] = short["cpu_s"] - short_tokens_cpu_s
    return row | {"reported": long["reported"], "true": long["true"]}


def present(tool: str, venvs: Path) -> bool:
    """The tool can be started."""
    if tool == "joulemark":
        return True
    names = {
        "aiperf": "v_aiperf/bin/aiperf",
        "guidellm": "v_guide/bin/guidellm",
        "inference-perf": "v_infperf/bin/inference-perf",
        "vllm": "v_vllm/bin/python",
    }
    return (venvs / names[tool]).exists()


def main() -> None:
    """See the docstring."""
    if sys.argv[1:2] == ["--one"]:
        url, streams, count, osl, out = sys.argv[2:]
        one(url, int(streams), int(count), int(osl), out)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, default=Path(".build/bench-load"))
    parser.add_argument("--make-venvs", action="store_true")
    parser.add_argument("--python", help="makes the environments; default: one that is found")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--mode", help="batch, stagger, or both with a comma; default: PLAN")
    parser.add_argument("--streams", default="64,256,1024", help="with --mode only")
    parser.add_argument("--repeats", type=int, default=5, help="with --mode only")
    parser.add_argument("--out", type=Path, help="default: a new file in .build")
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    if given.table:
        table(given.table)
        return
    if given.make_venvs:
        given.venvs.mkdir(parents=True, exist_ok=True)
        make_venvs(given.venvs, given.python)
    wanted = given.tools.split(",")
    tools = [tool for tool in wanted if present(tool, given.venvs)]
    print(f"not installed, left out: {sorted(set(wanted) - set(tools)) or 'none'}")
    plan = PLAN
    if given.mode:
        cells = itertools.product(given.mode.split(","), given.streams.split(","))
        plan = tuple((given.repeats, mode, int(streams), TOOLS) for mode, streams in cells)
    out = given.out or Path(f".build/bench-load-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    shorts: dict[tuple, dict] = {}
    for repeats, mode, streams, some in plan:
        # Tools take turns inside a repeat, so that all see the same machine.
        for repeat, tool in itertools.product(range(repeats), [t for t in tools if t in some]):
            row = measure(tool, mode, streams, venvs=given.venvs, repeat=repeat, shorts=shorts)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            cpu = row.get("cpu_ms_per_1000_tokens")
            print(
                f"{time.monotonic() - begun_s:5.0f} s {tool:>15} {mode} {streams} #{repeat}: "
                + (f"{cpu:.1f} CPU ms/1000 tokens" if cpu else row["failed"]),
                flush=True,
            )
    table(out)
    print(f"\nrows: {out}")


if __name__ == "__main__":
    main()
