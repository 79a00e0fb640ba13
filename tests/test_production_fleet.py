from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "dashboards" / "rules" / "joulemark.rules.yml"
SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
ENERGY = "model:joulemark_model_energy_joules:rate5m"
TOKENS = "model:joulemark_generated_tokens:rate5m"
RATIO = "model:joulemark_model_energy_joules_per_generated_tokens:ratio_rate5m"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def example(key: str) -> str:
    """The configuration that docs/scale.md shows, as it is there."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", SCALE, flags=re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(key)]
    return found


def query(port: int, text: str, **more: float) -> list[dict]:
    options = urllib.parse.urlencode({"query": text, **more})
    url = f"http://127.0.0.1:{port}/api/v1/query?{options}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: list[dict] = json.loads(answer.read())["data"]["result"]
    return found


def load(port: int) -> None:
    body = json.dumps({"prompt": "a b c", "max_tokens": 30}).encode()
    fields = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v1/completions"
    request = urllib.request.Request(url, body, fields)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
        answer.read()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Two exporters of unlike power and load, a Prometheus for both, and what is above it."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("fleet")
    engines, exporters = [free_port(), free_port()], [free_port(), free_port()]
    cluster, above, store = free_port(), free_port(), free_port()
    has_store = shutil.which("victoria-metrics") is not None
    program = [sys.executable, "-m", "harness"]
    commands = []
    for number, (engine, exporter) in enumerate(zip(engines, exporters, strict=True)):
        (folder / f"{number}.toml").write_text(
            f'[exporter]\nlisten = "127.0.0.1:{exporter}"\n[power]\nsources = ["scripted"]\n'
            f"[power.scripted]\nhigh_w = {200.0 * (1 + 2 * number)}\n"
            f'[[engine]]\nurl = "http://127.0.0.1:{engine}/metrics"\nmodel_name = "m"\n'
        )
        commands += [
            [*program, "mock", "--port", str(engine)],
            [*program, "export", "--config", f"{number}.toml"],
        ]
    rules = RULES.read_text(encoding="utf-8").replace("interval: 30s", "interval: 1s")
    (folder / "rules.yml").write_text(rules)
    targets = json.dumps([f"127.0.0.1:{port}" for port in exporters])
    (folder / "cluster.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s, external_labels: {cluster: c}}\n"
        "rule_files: [rules.yml]\n"
        "scrape_configs:\n- job_name: joulemark\n"
        f"  static_configs: [{{targets: {targets}, labels: {{cluster: c}}}}]\n"
        + example("remote_write").replace("store:8428", f"127.0.0.1:{store}")
        * has_store
    )
    (folder / "above.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        + example("scrape_configs").replace("cluster-1:9090", f"127.0.0.1:{cluster}")
    )
    if has_store:
        listen = f"-httpListenAddr=127.0.0.1:{store}"
        path = "-storageDataPath=store-data"
        commands.append(["victoria-metrics", listen, path, "-search.latencyOffset=0s"])
    for name, port in (("cluster", cluster), ("above", above)):
        listen = f"--web.listen-address=127.0.0.1:{port}"
        path = f"--storage.tsdb.path={name}-data"
        commands.append(["prometheus", f"--config.file={name}.yml", listen, path])
    with contextlib.ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
        end_s = time.monotonic() + 90
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                for engine in (*engines, engines[0], engines[0], engines[0]):
                    load(engine)
                if query(above, RATIO) and len(query(cluster, "up == 1")) == 2:
                    break
            time.sleep(0.3)
        else:
            pytest.fail("the fleet gave no ratio in 90 s")
        yield cluster, above, store if has_store else None


def settles(port: int, ratio: str) -> None:
    """Near 1, once the rules' instants are close together against what they have seen."""
    end_s = time.monotonic() + 90
    value = None
    while time.monotonic() < end_s:
        (row,) = query(port, ratio)
        value = float(row["value"][1])
        if value == pytest.approx(1.0, abs=0.05):
            return
        time.sleep(0.5)
    pytest.fail(f"{ratio} stays at {value}")


def test_the_ratio_of_a_fleet_is_the_ratio_of_its_sums_and_no_mean_of_ratios(fleet):
    cluster, _, _ = fleet
    energy = "rate(joulemark_model_energy_joules_total[5m])"
    tokens = "rate(joulemark_generated_tokens_total[5m])"
    settles(cluster, f"{RATIO} / on (model_name) ({ENERGY} / {TOKENS})")
    settles(cluster, f"{ENERGY} / on (model_name) sum by (model_name) ({energy})")
    # Four requests to the node of 200 W for each to the one of 600 W: the mean of the nodes'
    # ratios is about twice what a token of the fleet took.
    by_node = f"sum by (instance) ({energy}) / sum by (instance) ({tokens})"
    (mean,) = query(cluster, f"avg({by_node}) / on () {RATIO}")
    assert float(mean["value"][1]) > 1.3


def test_a_server_above_sees_the_same_numbers_with_their_cluster_and_kind(fleet):
    cluster, above, _ = fleet
    (below,) = query(cluster, f"avg_over_time({RATIO}[20s])")
    (seen,) = query(above, f"avg_over_time({RATIO}[20s])")
    assert seen["metric"]["cluster"] == "c"
    assert seen["metric"]["power_kind"] == "emulated"
    assert float(seen["value"][1]) == pytest.approx(float(below["value"][1]), rel=0.2)


def test_a_store_that_is_written_to_has_the_same_numbers_and_none_of_the_raw_series(fleet):
    cluster, _, store = fleet
    if store is None:
        pytest.skip("victoria-metrics is not installed (Debian: victoria-metrics)")
    end_s = time.monotonic() + 90
    while time.monotonic() < end_s and not (rows := query(store, RATIO)):
        time.sleep(0.5)
    assert rows, "nothing arrived in 90 s"
    # At one instant that both have: the store is as far behind as its writer's batches.
    (stamp,) = query(store, f"timestamp({RATIO})")
    t_s = float(stamp["value"][1])
    (written,), (kept,) = query(store, RATIO, time=t_s), query(cluster, RATIO, time=t_s)
    assert {**written["metric"], "__name__": RATIO} == {**kept["metric"], "__name__": RATIO}
    assert float(written["value"][1]) == pytest.approx(float(kept["value"][1]), rel=1e-9)
    assert query(cluster, "joulemark_model_energy_joules_total")
    assert not query(store, "joulemark_model_energy_joules_total")
