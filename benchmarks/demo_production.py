"""Shows production whole: a real llama.cpp, the exporter and a real Prometheus, for a minute."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness import plugins  # noqa: E402 - the checkout, installed or not

RULES = ROOT / "dashboards" / "rules" / "joulemark.rules.yml"
WINDOW_S = 300
RATES = "model:joulemark_generated_tokens:rate5m"
RATIOS = {
    "J/generated token": (
        "model:joulemark_model_energy_joules_per_generated_tokens:ratio_rate5m",
        "joulemark_model_energy_joules_total",
        1.0,
    ),
    "$/million tokens": (
        "model:joulemark_cost_per_million_generated_tokens:ratio_rate5m",
        'joulemark_cost_total{model_name!=""}',
        1e6,
    ),
}


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(
    *argv: str, log: Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended when the block is."""
    with log.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=file, env=env, cwd=cwd)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
    return body


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Wait until a URL answers, or say why it does not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            get(url)
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer:\n{log.read_text()[-2000:]}")


def load(base: str, until_s: float) -> None:
    """One client: a completion after the other."""
    body = json.dumps({"prompt": "Tell a story about a river.", "max_tokens": 24}).encode()
    fields = {"Content-Type": "application/json"}
    while time.monotonic() < until_s:
        request = urllib.request.Request(f"{base}/v1/completions", body, fields)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answer.read()


def query(prometheus: str, text: str, t_s: float) -> list[dict[str, Any]]:
    """One instant query."""
    options = urllib.parse.urlencode({"query": text, "time": t_s})
    found: list[dict[str, Any]] = json.loads(get(f"{prometheus}/api/v1/query?{options}"))["data"][
        "result"
    ]
    return found


def moved(prometheus: str, selector: str, t_s: float) -> float:
    """What raw counters moved by between the first and the last scrape of the window."""
    series = query(prometheus, f"{selector}[{WINDOW_S}s]", t_s)
    return sum(float(one["values"][-1][1]) - float(one["values"][0][1]) for one in series)


def report(prometheus: str, t_s: float) -> bool:
    """
    Print the rules' numbers beside our own arithmetic; False if they differ by 1 %.

    Args:
        prometheus: its URL.
        t_s: when the ratios were evaluated.
    """
    # Ratios are of rates that their own group evaluated up to an interval before: the raw counters
    # have to be those of that instant.
    (row,) = query(prometheus, f"timestamp({RATES})", t_s)
    then_s = float(row["value"][1])
    tokens = moved(prometheus, "joulemark_generated_tokens_total", then_s)
    good = True
    print(f"\n{'':20} {'by rule':>12} {'by raw counters':>16} {'difference':>11}")
    for name, (rule, selector, factor) in RATIOS.items():
        (row,) = query(prometheus, rule, t_s)
        ours = factor * moved(prometheus, selector, then_s) / tokens
        theirs = float(row["value"][1])
        good &= abs(theirs / ours - 1) < 0.01
        print(f"{name:20} {theirs:12.6f} {ours:16.6f} {theirs / ours - 1:+11.3%}")
    kind = row["metric"]["power_kind"]
    print(f"model {row['metric']['model_name']}, power {kind}, {tokens:.0f} tokens generated")
    errors = query(prometheus, "max(joulemark_conservation_error_ratio)", t_s)
    print(f"conservation error {float(errors[0]['value'][1]):.1e} (limit 1e-9)")
    for row in query(prometheus, "sum by (state) (joulemark_model_energy_joules_total)", t_s):
        print(f"  {row['metric']['state']:8} {float(row['value'][1]):10.1f} J")
    return good and float(errors[0]["value"][1]) < 1e-9


def demonstrate(folder: Path, power: str, seconds: float) -> bool:
    """Start everything, load it, and report."""
    ports = [free_port() for _ in range(3)]
    engine_url, exporter_url, prometheus_url = (f"http://127.0.0.1:{port}" for port in ports)
    engine = plugins.load("engine", "llama_cpp")().prepare(port=ports[0])
    spec = engine.launch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rules = RULES.read_text(encoding="utf-8").replace("interval: 30s", "interval: 2s")
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    (folder / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 2s}}\nrule_files: [rules.yml]\n"
        f"scrape_configs:\n- job_name: joulemark\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{ports[1]}']\n"
    )
    logs = {name: folder / f"{name}.log" for name in ("engine", "exporter", "prometheus")}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(*spec.argv, log=logs["engine"], env=environment))
        print(f"llama.cpp ({Path(engine.model).stem}) at {engine_url}")
        wait_for(spec.ready_url, server, logs["engine"])
        source = "nvml" if power == "emulated" else "cpu_model"
        (folder / "exporter.toml").write_text(
            f'[exporter]\nlisten = "127.0.0.1:{ports[1]}"\nstate_file = "{folder}/state"\n'
            f'[power]\nsources = ["{source}"]\n[cost]\nprice_per_kwh = 0.0861\npue = 1.2\n'
            f'[[engine]]\nurl = "{engine_url}/metrics"\nmodel_name = "{Path(engine.model).stem}"\n'
            f"pid = {server.pid}\n"
        )
        # Prometheus first: what a counter counts before its first scrape is not seen.
        prometheus = stack.enter_context(
            running(
                "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{ports[2]}", log=logs["prometheus"], cwd=folder,
            )
        )  # fmt: skip
        wait_for(f"{prometheus_url}/-/ready", prometheus, logs["prometheus"])
        argv = (sys.executable, "-m", "harness", "export", "--config", f"{folder}/exporter.toml")
        exporter = stack.enter_context(running(*argv, log=logs["exporter"], env=environment))
        wait_for(f"{exporter_url}/-/ready", exporter, logs["exporter"])
        print(f"exporter at {exporter_url}, Prometheus at {prometheus_url}")
        print(f"idle for 12 s, for the baseline; then load for {seconds:.0f} s", flush=True)
        time.sleep(12)
        until_s = time.monotonic() + seconds
        clients = [threading.Thread(target=load, args=(engine_url, until_s)) for _ in range(2)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        time.sleep(4)
        # The rules' own instant: what they recorded holds at the time they were evaluated.
        rule = next(iter(RATIOS.values()))[0]
        (row,) = query(prometheus_url, f"timestamp({rule})", time.time())
        return report(prometheus_url, float(row["value"][1]))


def main() -> int:
    """Parse, and put emulated GPUs around us if they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--power", choices=("emulated", "modelled"), default="emulated")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not installed; on Debian: apt-get install prometheus")
    if options.power == "emulated" and not options.inside:
        words = ["--inside", "--seconds", str(options.seconds)]
        emulate = [sys.executable, "-m", "harness", "emulate", "--follow-cpu", "70:680", "--"]
        argv = [*emulate, sys.executable, __file__, *words]
        return subprocess.run(
            argv, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).returncode
    with tempfile.TemporaryDirectory(prefix="joulemark-demo-") as folder:
        return 0 if demonstrate(Path(folder), options.power, options.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
