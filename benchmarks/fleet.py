"""What a fleet costs its Prometheus: series, bytes and rule time of simulated nodes, measured."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "dashboards")]

from boards import BOARDS  # noqa: E402 - the checkout's, beside the boards
from fleet_nodes import Nodes, template  # noqa: E402 - beside this script

RULES = ROOT / "dashboards" / "rules" / "joulemark.rules.yml"
WHOLE_FLEET_GPUS = 100_000
RULES_EACH_S = 15
"""Oftener than the 30 s of the file, for more evaluations in less time; each costs the same."""
RULES_S = 60.0


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
    return body


def ask(base: str, query: str) -> list[dict[str, Any]]:
    """One instant query."""
    options = urllib.parse.urlencode({"query": query})
    found: list[dict[str, Any]] = json.loads(get(f"{base}/api/v1/query?{options}"))["data"][
        "result"
    ]
    return found


def one(base: str, query: str) -> float:
    """The only value of a query."""
    (row,) = ask(base, query)
    return float(row["value"][1])


def own(base: str, name: str) -> float:
    """One of Prometheus's own metrics, summed over its series."""
    pattern = rf"^{name}(?:\{{[^\n]*\}})? (\S+)$"
    return sum(map(float, re.findall(pattern, get(f"{base}/metrics").decode(), re.MULTILINE)))


@contextlib.contextmanager
def prometheus(folder: Path, nodes: int, port: int, interval_s: float) -> Iterator[str]:
    """A real Prometheus that scrapes all nodes and evaluates the real rules; gives its URL."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        listen = sock.getsockname()[1]
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                "__metrics_path__": f"/n{n:05}",
                "instance": f"n{n:05}",
                "cluster": f"c{n % 4}",
            },
        }
        for n in range(nodes)
    ]
    (folder / "nodes.json").write_text(json.dumps(targets))
    rules = RULES.read_text(encoding="utf-8").replace("interval: 30s", f"interval: {RULES_EACH_S}s")
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    (folder / "p.yml").write_text(
        f"global: {{scrape_interval: {interval_s:g}s, scrape_timeout: {min(interval_s, 10):g}s,"
        f" evaluation_interval: {RULES_EACH_S}s}}\n"
        "rule_files: [rules.yml]\nscrape_configs:\n- job_name: joulemark\n"
        "  file_sd_configs: [{files: [nodes.json]}]\n"
    )
    command = [
        "prometheus", "--config.file=p.yml", "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{listen}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{listen}"
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s and process.poll() is None:
            with contextlib.suppress(OSError):
                get(f"{base}/-/ready")
                break
            time.sleep(0.2)
        else:
            raise SystemExit(f"Prometheus does not start:\n{(folder / 'log').read_text()[-2000:]}")
        yield base
    finally:
        process.terminate()
        process.wait()


def rule_seconds(base: str, seconds: float) -> dict[str, list[float]]:
    """How long each group of rules took at each evaluation of the next so many seconds."""
    found: dict[str, dict[str, float]] = {}
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for group in json.loads(get(f"{base}/api/v1/rules"))["data"]["groups"]:
            took = found.setdefault(group["name"], {})
            took[group["lastEvaluation"]] = float(group["evaluationTime"])
        time.sleep(RULES_EACH_S / 3)
    return {name: list(took.values()) for name, took in found.items()}


def panel_seconds(base: str) -> list[float]:
    """How long each query of the Fleet board takes."""
    took = []
    for _, row in BOARDS[0].rows:
        for panel in row:
            for query, _ in panel.queries:
                began_s = time.perf_counter()
                ask(base, re.sub(r'"\$\w+"', '".*"', query).replace("$__range", "5m"))
                took.append(time.perf_counter() - began_s)
    return took


def main() -> int:
    """Measure, print, and check the fleet's figures against the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between scrapes")
    parser.add_argument("--seconds", type=float, default=220.0)
    options = parser.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not installed; on Debian: apt-get install prometheus")
    made = template(options.gpus, options.models)
    body = made.at(b"n00000", 0.0)
    packed = gzip.compress(body, 1)
    per_node = sum(value is not None for value in made.values)
    nodes = Nodes(made)
    nodes.start()
    with (
        tempfile.TemporaryDirectory(prefix="joulemark-fleet-") as name,
        prometheus(Path(name), options.nodes, nodes.port, options.interval) as base,
    ):
        cpu_s, began_s = own(base, "process_cpu_seconds_total"), time.monotonic()
        # Rules take longer the fuller their five minutes are: only the last minute counts.
        time.sleep(max(options.seconds - RULES_S, 0))
        groups = {name: took[1:] or took for name, took in rule_seconds(base, RULES_S).items()}
        spent = (own(base, "process_cpu_seconds_total") - cpu_s) / (time.monotonic() - began_s)
        series = own(base, "prometheus_tsdb_head_series")
        memory = own(base, "process_resident_memory_bytes")
        up = one(base, "sum(up)")
        scrape_s = one(base, "quantile(0.99, scrape_duration_seconds)")
        in_window = one(base, "max(count_over_time(joulemark_snapshots_total[5m]))")
        recorded = one(base, 'count({__name__=~".+:joulemark_.+"})')
        federated = one(base, 'count({__name__=~"(model|cluster).*:joulemark_.+"})')
        panels = panel_seconds(base)
        energy = made.rate_of("joulemark_model_energy_joules_total")
        truth = energy / made.rate_of("joulemark_generated_tokens_total")
        found = one(
            base,
            "sum(model:joulemark_model_energy_joules:rate5m)"
            " / sum(model:joulemark_generated_tokens:rate5m)",
        )
    scale = WHOLE_FLEET_GPUS / (options.nodes * options.gpus)
    print(
        f"{options.nodes} nodes, {options.gpus} GPUs each, {options.models} models on every GPU; "
        f"scraped every {options.interval:g} s for {options.seconds:.0f} s, {up:.0f} nodes up"
    )
    print(f"a node: {per_node} series, {len(body)} bytes a scrape, {len(packed)} gzipped")
    print(f"all: {series:.0f} series in Prometheus's head, of which {recorded:.0f} recorded")
    print(
        f"     {options.nodes * len(body) / 1e6:.1f} MB a round, p99 of a scrape {scrape_s:.3f} s"
    )
    print(
        f"     Prometheus: {memory / 1e9:.2f} GB, {spent:.2f} cores; "
        f"{in_window:.0f} samples of a series in 5 min"
    )
    print(
        f"     so {spent * RULES_EACH_S:.1f} s of CPU in {RULES_EACH_S} s, for the scrapes and one "
        "evaluation of all rules"
    )
    rules_s = {name: statistics.median(took) for name, took in groups.items()}
    for group, seconds in rules_s.items():
        print(f"     {group}: {seconds:.3f} s an evaluation, median of {len(groups[group])}")
    print(f"     Fleet board: {len(panels)} queries, longest {max(panels):.3f} s")
    print(f"     for a server above: {federated:.0f} series to federate")
    print(f"     J/token of the fleet by the rules {found:.6f}, true {truth:.6f}")
    print(
        f"times {scale:g}, for {WHOLE_FLEET_GPUS} GPUs: {series * scale / 1e6:.2f} million series, "
        f"{options.nodes * len(body) * scale / 15 / 1e6:.0f} MB/s at a scrape each 15 s "
        f"({options.nodes * len(packed) * scale / 15 / 1e6:.1f} gzipped), "
        f"{memory * scale / 1e9:.0f} GB, rules {sum(rules_s.values()) * scale:.1f} s"
    )
    good = up == options.nodes and abs(found / truth - 1) < 0.01
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
