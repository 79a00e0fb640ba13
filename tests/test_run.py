"""The main job on real parts: a real llama.cpp, a real model, the command line as users run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pyarrow.parquet as pq
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import metrics, store

ROOT = Path(__file__).resolve().parent.parent
# Seconds long: real requests, a window that is short and said to be.
SHORT = (
    "-s", "load.request_count=12", "-s", "load.duration_s=60", "-s", "load.concurrency=2",
    "-s", "load.warmup_request_count=2", "-s", "power.idle_s=0.5",
    "-s", "window.refuse_below_s=0.2", "-s", "window.min_s=0.5",
    "--isl", "8", "--osl", "12", "-s", "workload.range_ratio=1",
)  # fmt: skip

pytestmark = pytest.mark.engine


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """One finished run, its folder and what it printed."""
    assert model.is_file()
    base = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "quickstart", "--json", *SHORT],
        cwd=base,
        env=environment(),
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    (folder,) = (base / "runs").iterdir()
    return folder, done


@pytest.fixture(scope="module")
def record(finished) -> dict:
    return json.loads(finished[1].stdout)


def test_json_is_one_document_on_stdout_and_the_rest_is_on_stderr(finished, record):
    folder, done = finished
    assert done.stdout == (folder / "run.json").read_bytes()
    assert record["status"] == "complete"
    assert b"output throughput" in done.stderr
    assert b"Traceback" not in done.stderr


def test_output_tokens_agree_three_ways(record):
    tokens = record["tokens"]
    assert tokens["requests"] == 12
    assert tokens["requests_failed"] == 0
    assert tokens["usage"] == tokens["stream"] == tokens["server_counter"] == 12 * 12
    assert "tokens_disagree" not in {finding["code"] for finding in record["findings"]}


def test_the_record_has_the_metrics_of_day_one_and_each_has_a_card(record):
    keys = set(record["metrics"])
    assert {
        "ttft_s.mean", "ttft_s.p50", "ttft_s.p90", "ttft_s.p95", "ttft_s.p99",
        "tpot_s.mean", "itl_s.p99", "e2e_s.p95", "interactivity_tok_per_s.p50",
        "output_throughput_tok_per_s", "request_throughput_rps",
    } <= keys  # fmt: skip
    for name in ("energy_j", "average_w", "j_per_output_token", "j_per_total_token",
                 "output_tok_per_s_per_mw_consumed", "energy_usd_per_mtok_output"):  # fmt: skip
        assert any(key.endswith(f"_{name}") for key in keys), name
    for key, value in record["metrics"].items():
        assert value["unit"] == metrics.card_of(key).unit
        assert value["value"] > 0


def test_joules_of_a_cpu_engine_are_the_cpus_and_their_kind_is_said(record):
    (window,) = [w for w in record["windows"] if w["name"] == "steady"]
    assert {energy["boundary"] for energy in window["energies"]} <= {"cpu_package", "cpu_dram"}
    assert record["power_kind"] in {"measured", "modelled"}
    if record["power_kind"] == "modelled":
        assert "power_modelled" in {finding["code"] for finding in record["findings"]}


def test_the_arithmetic_of_joules_per_token_holds(record):
    (window,) = [w for w in record["windows"] if w["name"] == "steady"]
    (energy,) = [e for e in window["energies"] if e["boundary"] == "cpu_package"]
    per_token = record["metrics"]["cpu_package_j_per_output_token"]
    assert per_token["value"] * per_token["n"] == pytest.approx(energy["energy_j"])
    per_mw = record["metrics"]["cpu_package_output_tok_per_s_per_mw_consumed"]
    assert per_mw["value"] * per_token["value"] == pytest.approx(1e6)
    usd = record["metrics"]["cpu_package_energy_usd_per_mtok_output"]["value"]
    assert usd == pytest.approx(per_token["value"] * 1e6 / 3.6e6 * 0.0861)


def test_recompute_gives_the_same_bytes_as_show(finished):
    folder, _ = finished
    printed = [
        subprocess.run(
            [sys.executable, "-m", "harness", verb, str(folder), "--json"],
            env=environment(), cwd=folder, capture_output=True, check=True, timeout=60,
        ).stdout
        for verb in ("show", "recompute", "show")
    ]  # fmt: skip
    assert printed[0] == printed[1] == printed[2]


def test_the_folder_holds_what_the_manual_says(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json", "marks.jsonl", "requests.parquet", "tokens.parquet", "power.parquet",
        "run.json", "report.md", "openmetrics.txt", "log.txt", "engine.log",
    }  # fmt: skip
    requests = pq.read_table(folder / "requests.parquet").to_pandas()
    assert requests["phase"].value_counts().to_dict() == {"measure": 12, "warmup": 2}


def test_every_joule_that_was_not_measured_says_so_in_table_report_and_metrics(finished, record):
    folder, done = finished
    if record["power_kind"] == "measured":
        pytest.skip("this machine measures power")
    kind = record["power_kind"]
    table = done.stderr.decode()
    report = (folder / "report.md").read_text()
    for text in (table, report):
        for line in text.splitlines():
            if re.search(r"\d (J|J/token|W|USD/Mtok|tok/s/MW)\b", line):
                assert kind.upper() in line or kind in line, line
    for line in (folder / "openmetrics.txt").read_text().splitlines():
        if line.startswith("joulemark_run_") and ("joules" in line or "watts" in line):
            assert line.startswith(f"joulemark_run_{kind}_"), line
            assert f'power_kind="{kind}"' in line


def test_openmetrics_is_read_by_its_own_parser_and_by_promtool(finished):
    text = (finished[0] / "openmetrics.txt").read_text()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "joulemark_run" in names
    assert "joulemark_run_ttft_seconds" in names
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; `make apt` installs it as root")
    # Debian's promtool reads the older text format, which has no info type.
    text = text.replace("joulemark_run info", "joulemark_run_info gauge")
    text = text.replace("# HELP joulemark_run ", "# HELP joulemark_run_info ")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 0, complaints


def start(base: Path, *more: str) -> subprocess.Popen[bytes]:
    """A long run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "quickstart", *SHORT, *more],
        cwd=base,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def until_measuring(base: Path, harness: subprocess.Popen[bytes], requests: int = 8) -> Path:
    """Wait until the measured phase has finished some requests; the run's folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and harness.poll() is None:
        for folder in (base / "runs").glob("*"):
            path = folder / store.REQUESTS
            if path.exists() and path.read_bytes().count(b'"measure"') >= requests:
                return folder
        time.sleep(0.02)
    pytest.fail(f"the run did not get to its measured phase: {harness.stderr.read()!r}")


def test_after_sigkill_nothing_recorded_is_lost_and_no_process_is_left(tmp_path: Path, model):
    assert model
    harness = start(tmp_path, "-s", "load.request_count=100000")
    folder = until_measuring(tmp_path, harness)
    family = psutil.Process(harness.pid).children(recursive=True)
    assert len(family) >= 3, "sampler, guard and engine"
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    recorded = (folder / store.REQUESTS).read_bytes().count(b"\n")
    events = (folder / store.EVENTS).stat().st_size
    alive = psutil.wait_procs(family, timeout=20)[1]
    assert not alive, f"still running: {alive}"

    done = subprocess.run(
        [sys.executable, "-m", "harness", "recompute", str(folder), "--json"],
        env=environment(), cwd=tmp_path, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    record = orjson.loads(done.stdout)
    assert record["status"] == "incomplete"
    assert "incomplete" in {finding["code"] for finding in record["findings"]}
    raw = store.load(folder)
    assert len(raw.requests) == recorded
    assert len(raw.events) >= (events - 64) // 24
    assert record["tokens"]["usage"] >= 3 * 12
    assert record["metrics"]["output_throughput_tok_per_s"]["value"] > 0


def test_ctrl_c_ends_in_order_with_a_partial_marked_record(tmp_path: Path, model):
    assert model
    harness = start(tmp_path, "-s", "load.request_count=100000")
    folder = until_measuring(tmp_path, harness)
    family = psutil.Process(harness.pid).children(recursive=True)
    os.kill(harness.pid, signal.SIGINT)
    _, stderr = harness.communicate(timeout=60)
    assert harness.returncode == 130, stderr
    assert b"Traceback" not in stderr
    record = orjson.loads((folder / "run.json").read_bytes())
    assert record["status"] == "incomplete"
    (finding,) = [f for f in record["findings"] if f["code"] == "incomplete"]
    assert "stopped by the user" in finding["message"]
    assert not psutil.wait_procs(family, timeout=20)[1]


def test_an_engine_killed_mid_run_leaves_a_marked_record_and_a_clear_message(tmp_path: Path, model):
    assert model
    harness = start(tmp_path, "-s", "load.request_count=100000")
    folder = until_measuring(tmp_path, harness)
    family = psutil.Process(harness.pid).children(recursive=True)
    for child in family:
        if "harness.engines.llama_cpp" in " ".join(child.cmdline()[:4]):
            child.kill()
    _, stderr = harness.communicate(timeout=60)
    assert harness.returncode == 2
    assert not psutil.wait_procs(family, timeout=20)[1], "sampler, guard or engine left"
    assert b"the engine was ended by signal 9" in stderr
    assert b"what was recorded is in" in stderr
    record = orjson.loads((folder / "run.json").read_bytes())
    assert record["status"] == "incomplete"
    assert record["tokens"]["usage"] >= 3 * 12
