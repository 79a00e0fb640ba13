"""Runs in other tools' formats: the fields they read, hand-checked numbers, no joule unmeasured."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import golden_run
import pyarrow.parquet as pq
import pytest

from exporters import _requests as requests
from harness import pipeline, plugins
from harness.errors import StoreError
from harness.record import RunRecord


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    golden_run.make(tmp_path / "run")
    pipeline.finish(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def record(folder: Path) -> RunRecord:
    return pipeline.with_window(folder, "run")


def export(kind: str, record: RunRecord, folder: Path) -> dict:
    return json.loads(plugins.load("exporter", kind)().export(record, folder).read_text())


def measured(record: RunRecord) -> RunRecord:
    """The golden run's power is emulated; here it is taken for measured."""
    text = record.to_json().decode().replace('"emulated"', '"measured"')
    return RunRecord.from_json(text.encode(), where="test")


def test_vllm_bench_has_its_fields_and_the_golden_run_s_numbers(folder, record):
    """40 requests of 10 + 20 tokens in 10 rounds of 0.96 s and 3 ms; TTFT 200 ms, TPOT 40 ms."""
    found = export("vllm_bench", record, folder)
    assert {
        "date", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate",
        "burstiness", "max_concurrency", "duration", "completed", "total_input_tokens",
        "total_output_tokens", "request_throughput", "request_goodput", "output_throughput",
        "total_token_throughput", "mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p99_ttft_ms",
        "mean_tpot_ms", "p99_itl_ms", "median_e2el_ms",
    } <= found.keys()  # fmt: skip
    assert found["completed"] == 40
    assert found["total_input_tokens"] == 400
    assert found["total_output_tokens"] == 800
    assert found["duration"] == pytest.approx(9.603)
    assert found["output_throughput"] == pytest.approx(800 / 9.603)
    assert found["mean_ttft_ms"] == pytest.approx(200)
    assert found["p99_tpot_ms"] == pytest.approx(40)
    assert found["mean_e2el_ms"] == pytest.approx(960)
    assert found["request_rate"] == "inf"


def test_inferencex_row_has_its_fields_in_seconds(folder, record):
    record.provenance["engine"]["gpus"] = [0, 1]
    found = export("inferencex", record, folder)
    assert {
        "hw", "conc", "image", "model", "infmax_model_prefix", "framework", "precision",
        "spec_decoding", "disagg", "recipe_fingerprint", "isl", "osl", "is_multinode", "tp", "pp",
        "dcp_size", "pcp_size", "ep", "dp_attention", "tput_per_gpu", "output_tput_per_gpu",
        "input_tput_per_gpu", "power_valid", "power_metric_schema_version",
    } <= found.keys()  # fmt: skip
    for name in ("ttft", "tpot", "itl", "e2el", "intvty"):
        for statistic in ("mean", "median", "p90", "p99", "p99.9"):
            assert f"{statistic}_{name}" in found
    assert found["std_ttft"] == 0
    assert "std_intvty" not in found, "one over a spread of 0"
    assert found["conc"] == golden_run.SLOTS
    assert found["tput_per_gpu"] == pytest.approx(1200 / 9.603 / 2)
    assert found["output_tput_per_gpu"] == pytest.approx(800 / 9.603 / 2)
    assert found["median_intvty"] == pytest.approx(25.0)


def test_emulated_joules_are_in_no_other_tool_s_file(folder, record):
    row = export("inferencex", record, folder)
    assert row["power_valid"] == 0
    assert row["joulemark_power_kind"] == "emulated"
    assert not [key for key in row if key.startswith(("joules", "avg_power", "total_gpu"))]
    assert not [key for key in export("aiperf", record, folder) if "energy" in key]


def test_measured_joules_are_and_by_their_definitions(folder, record):
    row = export("inferencex", measured(record), folder)
    joules = row["total_gpu_energy_j"]
    assert joules == pytest.approx(golden_run.WATTS * 9.603, rel=0.02)
    assert row["power_valid"] == 1
    assert row["joules_per_output_token"] == pytest.approx(joules / 800)
    assert row["joules_per_total_token"] == pytest.approx(joules / 1200)
    assert row["joules_per_input_token"] == pytest.approx(joules / 400)
    assert row["joules_per_successful_query"] == pytest.approx(joules / 40)
    assert row["avg_power_w"] == pytest.approx(golden_run.WATTS, rel=0.01)
    assert row["avg_total_gpu_power_w"] == pytest.approx(golden_run.WATTS, rel=0.01)
    aiperf = export("aiperf", measured(record), folder)
    assert aiperf["nvidia_energy_per_output_token"]["avg"] == pytest.approx(joules / 800 * 1e3)


def test_measured_joules_of_another_window_are_not_mixed_with_the_whole_run_s_tokens(folder):
    steady = measured(pipeline.recompute(folder))
    assert steady.windows[0]["name"] == "steady"
    assert export("inferencex", steady, folder)["power_valid"] == 0


def test_aiperf_s_names_and_units(folder, record):
    found = export("aiperf", record, folder)
    assert found["time_to_first_token"]["unit"] == "ms"
    assert found["time_to_first_token"]["p50"] == pytest.approx(200)
    assert found["inter_token_latency"]["avg"] == pytest.approx(40)
    assert found["output_token_throughput_per_user"]["avg"] == pytest.approx(25)
    assert found["request_count"]["avg"] == 40
    assert found["was_cancelled"] is False


def test_csv_and_parquet_hold_the_same_rows_and_say_the_kind_of_power(folder, record):
    text = plugins.load("exporter", "csv")().export(record, folder).read_text()
    rows = list(csv.DictReader(text.splitlines()))
    table = pq.read_table(plugins.load("exporter", "parquet")().export(record, folder)).to_pylist()
    assert [row["metric"] for row in rows] == [row["metric"] for row in table]
    assert {row["metric"] for row in rows} == set(record.metrics)
    for row, typed in zip(rows, table, strict=True):
        assert float(row["value"]) == typed["value"] == record.metrics[row["metric"]].value
        assert (row["low"] == "") == (typed["low"] is None)
        assert typed["power_kind"] == ("emulated" if row["metric"].startswith("gpu_") else None)


def test_a_run_without_a_single_success_is_refused(tmp_path):
    golden_run.make(tmp_path / "run")
    text = (tmp_path / "run" / "requests.jsonl").read_text()
    failed = text.replace('"error_kind":null', '"error_kind":"refused"')
    (tmp_path / "run" / "requests.jsonl").write_text(failed)
    pipeline.finish(tmp_path / "run")
    with pytest.raises(StoreError, match="no request of run succeeded"):
        requests.totals(tmp_path / "run")


def test_an_unfinished_folder_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="joulemark recompute"):
        requests.totals(tmp_path)


def test_devices_come_from_the_engine_or_the_meter(record):
    assert requests.devices(record) is None
    assert requests.devices(measured(record)) == 1
    provenance = {**record.provenance, "engine": {"engine": "vllm", "gpus": [0, 1, 2]}}
    assert requests.devices(dataclasses.replace(record, provenance=provenance)) == 3
