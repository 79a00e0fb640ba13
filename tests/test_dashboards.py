from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from harness.production import metric_set

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "dashboards"
BOARDS = sorted(FOLDER.glob("*.json"))
sys.path.insert(0, str(FOLDER))

import panels  # noqa: E402 - beside the boards, in no package
from boards import BOARDS as TOLD  # noqa: E402 - likewise

RUN = (ROOT / "tests" / "golden" / "run" / "openmetrics.txt").read_text(encoding="utf-8")


def test_the_boards_are_what_the_script_makes():
    pytest.importorskip("grafana_foundation_sdk", reason="the dev extra has it")
    done = subprocess.run(
        [sys.executable, FOLDER / "build.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_can_be_imported_anywhere_and_explains_itself(path):
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == path.stem
    assert board["templating"]["list"][0]["type"] == "datasource"
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["expr"] for target in panel["targets"])


def test_every_board_that_is_described_is_there_and_no_other():
    assert {path.stem for path in BOARDS} == {board.uid for board in TOLD}


def queries() -> list[tuple[panels.Panel, str]]:
    return [
        (panel, text)
        for board in TOLD
        for _, row in board.rows
        for panel in row
        for text, _ in panel.queries
    ]


def test_every_metric_that_a_panel_reads_exists():
    rules = (FOLDER / "rules" / "joulemark.rules.yml").read_text(encoding="utf-8")
    known = set(re.findall(r"record: (\S+)", rules)) | metric_set.BY_NAME.keys() | pushed_names()
    for panel, text in queries():
        by_name = re.findall(r"(?<![\w:\"])(?:\w+:)?joulemark_\w+(?::\w+)?", text)
        by_pattern = re.findall(r'__name__=~"([^"]+)"', text)
        assert by_name or by_pattern, panel.title
        assert set(by_name) <= known, panel.title
        for pattern in by_pattern:
            assert any(re.fullmatch(pattern, name) for name in known), panel.title


def pushed_names() -> set[str]:
    return set(re.findall(r"^(joulemark_run\w*)", pushed(0, active=True), re.MULTILINE))


def pushed(step: int, *, active: bool) -> str:
    """What `joulemark push` puts into a store of one emulated run."""
    live = (
        f'joulemark_run_active{{run_id="golden",run="quickstart",window="steady"}} {int(active)}\n'
        f'joulemark_run_phase{{run_id="golden",phase="measure"}} {int(active)}\n'
        'joulemark_run_emulated_gpu_power_watts{run_id="golden",power_kind="emulated",device="g"}'
        f" {300 + step}\n"
        f'joulemark_run_output_tokens_per_second{{run_id="golden"}} {80 + step}\n'
    )
    return RUN.replace("# EOF\n", live + "# EOF\n")


class Runs(http.server.BaseHTTPRequestHandler):
    """Shows a run as if it had been pushed, one step further at each look."""

    looks = 0

    def do_GET(self) -> None:
        type(self).looks += 1
        body = pushed(self.looks, active=self.looks > 1).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
    return body


def until(condition, seconds: float, what: str) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, StopIteration):
            if condition():
                return
        time.sleep(0.3)
    pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A real Prometheus that scrapes a real exporter on emulated GPUs, beside a mock engine."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    engine, exporter, server = free_port(), free_port(), free_port()
    runs = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runs)
    threading.Thread(target=runs.serve_forever, daemon=True).start()
    (folder / "e.toml").write_text(
        f'[exporter]\nlisten = "127.0.0.1:{exporter}"\n[power]\nsources = ["nvml"]\n'
        "provisioned_w = 1300.0\n[cost]\nprice_per_kwh = 0.1\ngrams_per_kwh = 300.0\n"
        f'[[engine]]\nurl = "http://127.0.0.1:{engine}/metrics"\n'
    )
    rules = (FOLDER / "rules" / "joulemark.rules.yml").read_text(encoding="utf-8")
    (folder / "rules.yml").write_text(rules.replace("interval: 30s", "interval: 2s"))
    (folder / "p.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 2s, external_labels: {cluster: c}}\n"
        "rule_files: [rules.yml]\nscrape_configs:\n- job_name: joulemark\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{exporter}']\n    labels: {{cluster: c}}\n"
        "- job_name: runs\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{runs.server_port}']\n"
    )
    program = [sys.executable, "-m", "harness"]
    listen = f"--web.listen-address=127.0.0.1:{server}"
    commands = [
        [*program, "mock", "--port", str(engine), "--model", "m"],
        [*program, "emulate", "--gpus", "1", "--", *program, "export", "--config", "e.toml"],
        # Debian's default path is one for the whole machine: runs would see each other's data.
        ["prometheus", "--config.file=p.yml", "--storage.tsdb.path=data", listen],
    ]
    with contextlib.ExitStack() as stack:
        stack.callback(runs.shutdown)
        for command in commands:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
        base = f"http://127.0.0.1:{server}"
        until(lambda: get(f"http://127.0.0.1:{exporter}/-/ready"), 60, "the exporter is ready")
        until(lambda: get(f"{base}/-/ready"), 60, "Prometheus is ready")
        # An increase is only seen by a server that has scraped the counter before.
        until(lambda: ask(base, "joulemark_computed_tokens_total"), 60, "the first scrape")
        _load(engine)
        ratio = "model:joulemark_model_energy_joules_per_generated_tokens:ratio_rate5m"
        until(lambda: ask(base, ratio), 60, "the rules have their first numbers")
        # A baseline needs ten idle seconds, and the engine is kept busy only at first.
        until(lambda: ask(base, "joulemark_device_idle_power_watts"), 60, "an idle baseline")
        yield base


def _load(port: int) -> None:
    body = json.dumps({"prompt": "a b c", "max_tokens": 64}).encode()
    for _ in range(6):
        url = f"http://127.0.0.1:{port}/v1/completions"
        fields = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, fields)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            answer.read()


def ask(base: str, text: str) -> list:
    text = re.sub(r'"\$\w+"', '".*"', text).replace("$__range", "5m")
    options = urllib.parse.urlencode({"query": text})
    answer = json.loads(get(f"{base}/api/v1/query?{options}"))
    assert answer["status"] == "success", text
    result: list = answer["data"]["result"]
    return result


@pytest.mark.parametrize(
    ("panel", "text"), queries(), ids=lambda value: getattr(value, "title", None)
)
def test_every_panel_shows_data_of_a_real_exporter_in_a_real_prometheus(prometheus, panel, text):
    rows = ask(prometheus, text)
    assert panel.rare or rows, text
    assert all(row["value"][1] != "NaN" for row in rows)


@pytest.mark.parametrize("board", TOLD, ids=lambda board: board.uid)
def test_every_variable_offers_something(prometheus, board):
    for query in board.variables.values():
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        options = urllib.parse.urlencode({"match[]": re.sub(r'"\$\w+"', '".*"', selector)})
        values = json.loads(get(f"{prometheus}/api/v1/label/{label}/values?{options}"))["data"]
        assert values, query


def test_the_mark_of_a_benchmark_run_finds_it(prometheus):
    """Boards of live nodes show runs without Grafana's API: where `joulemark_run_active` is 1."""
    for path in BOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        marks = [one["expr"] for one in board.get("annotations", {}).get("list", [])]
        assert bool(marks) == (path.stem != "joulemark-run")
        for expr in marks:
            (row,) = ask(prometheus, expr)
            assert row["metric"]["run"] == "quickstart"


def test_there_are_the_three_boards():
    assert [board.uid for board in TOLD] == ["joulemark-fleet", "joulemark-node", "joulemark-run"]


def test_the_mixin_gives_the_boards_the_rules_and_the_alerts():
    jsonnet = pytest.importorskip("_jsonnet", reason="the dev extra has it")
    source = "local m = import 'mixin.libsonnet'; {d: m.grafanaDashboards,"
    source += " r: m.prometheusRules, a: m.prometheusAlerts}"
    made = json.loads(jsonnet.evaluate_snippet("test", source, jpathdir=[str(FOLDER)]))
    assert made["d"] == {path.name: json.loads(path.read_text(encoding="utf-8")) for path in BOARDS}
    rules = (FOLDER / "rules" / "joulemark.rules.yml").read_text(encoding="utf-8")
    for word, groups in (("record", made["r"]["groups"]), ("alert", made["a"]["groups"])):
        names = [rule[word] for group in groups for rule in group["rules"]]
        assert names == re.findall(rf"- {word}: (\S+)", rules)
