"""Holds joulemark's client and its peers against one mock: CPU a token, and error of each number.

    python benchmarks/load.py --venvs DIR --streams 256 --mode batch --repeats 5 --out runs.jsonl
    python benchmarks/load.py --table runs.jsonl

DIR holds one virtual environment a peer (`v_aiperf`, `v_guide`, `v_infperf`, `v_vllm`) and a
tokenizer `tok`; `--make-venvs` makes them. Peers that are not there are left out, and said so.
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

from harness.arrivals import Arrivals
from harness.contracts import Endpoint
from harness.journal import JournalWriter, read_journal
from harness.load import LoadPlan, LoadProgress, run
from harness.mock.settings import MockSettings
from harness.mock.writelog import WriteKind, read_write_log
from harness.timeline import EVENT_DTYPE, EventKind, Request
from harness.trial import mock_process

OSL = 200
PROMPT = "How many joules does a token cost on this machine? " * 8
WAVES = (1, 5)
"""Short and long run, in requests a stream; the difference is free of start-up."""
TIMEOUT_S = 400


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


def run_tool(tool: str, venvs: Path, mode: str, streams: int, waves: int) -> dict:
    """One run against a fresh mock; CPU is user and system of the tool and all its children."""
    with tempfile.TemporaryDirectory(prefix="bench-load-") as name:
        folder = Path(name)
        out = folder / "out"
        out.mkdir()
        with mock_process(MockSettings(batch=mode == "batch"), folder / "writes") as endpoint:
            job = Job(
                url=endpoint.base_url, streams=streams, requests=streams * waves, osl=OSL, out=out
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
            return {
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "reported": report(job),
                "true": truth(folder / "writes"),
            }
        except (OSError, KeyError, TypeError, ValueError) as error:
            return {"failed": f"{error!r}"}


def measure(tool: str, venvs: Path, mode: str, streams: int, repeat: int) -> dict:
    """A short and a long run; the slope between them is the cost of a token."""
    row = {"tool": tool, "mode": mode, "streams": streams, "repeat": repeat}
    row |= {"load_average": os.getloadavg()[0], "t_wall": time.time()}
    short, long = (run_tool(tool, venvs, mode, streams, waves) for waves in WAVES)
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


def table(path: Path) -> None:
    """Medians over repeats, with the range of the CPU and of its ratio to ours."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ours = {
        (r["mode"], r["streams"], r["repeat"]): r
        for r in rows
        if r["tool"] == "joulemark" and "failed" not in r
    }
    cells: dict = {}
    for row in rows:
        cells.setdefault((row["mode"], row["streams"], row["tool"]), []).append(row)
    print(
        "| mode | streams | tool | runs | CPU ms/1000 tok (range) | tok/s a core | x joulemark "
        "(range) | tok/s got | TTFT p50 err ms | TTFT p99 err ms | TPOT mean err | "
        "ITL p50 err ms | ITL p99 err ms |"
    )
    print("|" + "---|" * 13)
    for (mode, streams, tool), group in sorted(cells.items()):
        good = [row for row in group if "failed" not in row]
        if not good:
            print(f"| {mode} | {streams} | {tool} | 0 of {len(group)} | failed |" + " - |" * 8)
            continue
        cpu = sorted(row["cpu_ms_per_1000_tokens"] for row in good)
        ratios = sorted(
            row["cpu_ms_per_1000_tokens"] / ours[key]["cpu_ms_per_1000_tokens"]
            for row in good
            if (key := (mode, streams, row["repeat"])) in ours
        )
        middle = statistics.median(ratios) if ratios else 0.0
        ratio = f"{middle:.1f} ({ratios[0]:.1f}-{ratios[-1]:.1f})" if ratios else "-"
        errors = [_error(good, name) for name in ("ttft_p50_ms", "ttft_p99_ms")]
        tpot = statistics.median(
            row["reported"]["tpot_mean_ms"] / row["true"]["tpot_mean_ms"] - 1 for row in good
        )
        gaps = [_error(good, name) for name in ("itl_p50_ms", "itl_p99_ms")]
        got = statistics.median(row["true"]["tok_per_s"] for row in good)
        middle = statistics.median(cpu)
        print(
            f"| {mode} | {streams} | {tool} | {len(good)} of {len(group)} | {middle:.1f} "
            f"({cpu[0]:.1f}-{cpu[-1]:.1f}) | {1e6 / middle:.0f} | {ratio} | {got:.0f} | "
            f"{errors[0]} | {errors[1]} | {tpot * 100:+.2f} % | {gaps[0]} | {gaps[1]} |"
        )


def _error(rows: list, name: str) -> str:
    errors = [
        row["reported"][name] - row["true"][name]
        for row in rows
        if row["reported"].get(name) is not None
    ]
    return f"{statistics.median(errors):+.2f}" if errors else "-"


def make_venvs(folder: Path, python: str) -> None:
    """One environment a peer; vLLM without its dependencies, for its request function only."""
    for name, packages in {
        "v_aiperf": ["aiperf==0.13.0"],
        "v_guide": ["guidellm==0.8.1"],
        "v_infperf": ["inference-perf==0.7.0"],
        "v_vllm": [
            "--no-deps",
            "vllm==0.33.0",
            "aiohttp",
            "tqdm",
            "regex",
            "aiohappyeyeballs",
            "aiosignal",
            "attrs",
            "frozenlist",
            "multidict",
            "propcache",
            "yarl",
            "idna",
            "typing_extensions",
        ],
    }.items():
        subprocess.run([python, "-m", "venv", folder / name], check=True)
        subprocess.run([folder / name / "bin/pip", "install", "-q", *packages], check=True)
    script = Path(__file__).with_name("load_tokenizer.py")
    subprocess.run([folder / "v_infperf/bin/python", script, folder / "tok"], check=True)


def main() -> None:
    """See the docstring."""
    if sys.argv[1:2] == ["--one"]:
        url, streams, count, osl, out = sys.argv[2:]
        one(url, int(streams), int(count), int(osl), out)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, default=Path(".build/bench-load"))
    parser.add_argument("--make-venvs", metavar="PYTHON")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--mode", default="batch,stagger")
    parser.add_argument("--streams", default="64,256,1024")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".build/bench-load.jsonl"))
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    if given.table:
        table(given.table)
        return
    if given.make_venvs:
        given.venvs.mkdir(parents=True, exist_ok=True)
        make_venvs(given.venvs, given.make_venvs)
    tools = [tool for tool in given.tools.split(",") if present(tool, given.venvs)]
    print(f"not installed, left out: {sorted(set(given.tools.split(',')) - set(tools)) or 'none'}")
    cells = itertools.product(range(given.repeats), given.mode.split(","), given.streams.split(","))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for repeat, mode, streams in cells:
        # Tools take turns inside a repeat, so that all see the same machine.
        for tool in tools:
            row = measure(tool, given.venvs, mode, int(streams), repeat)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            cpu = row.get("cpu_ms_per_1000_tokens")
            print(
                f"{tool:>15} {mode} {streams} #{repeat}: "
                + (f"{cpu:.1f} CPU ms/1000 tokens" if cpu else row["failed"]),
                flush=True,
            )
    table(given.out)


if __name__ == "__main__":
    main()
