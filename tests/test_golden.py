"""The golden run folder: today's program reads yesterday's files and gets the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import golden_run
import pytest

from harness import pipeline, store
from harness.record import RunRecord

GOLDEN = Path(__file__).parent / "golden" / "run"
DERIVED = (store.RECORD, store.REPORT, "openmetrics.txt")


@pytest.fixture
def folder(tmp_path: Path, request) -> Path:
    """A copy of the golden folder; with --update-golden it is made anew first."""
    if request.config.getoption("--update-golden"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        golden_run.make(GOLDEN)
        pipeline.recompute(GOLDEN)
    copy = tmp_path / "run"
    shutil.copytree(GOLDEN, copy)
    for name in DERIVED:
        (copy / name).unlink()
    return copy


@pytest.mark.parametrize("sealed", [False, True])
def test_the_golden_files_give_the_golden_record(folder: Path, sealed):
    if sealed:
        store.seal(folder)
    pipeline.recompute(folder)
    for name in DERIVED:
        assert (folder / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_the_golden_record_has_the_numbers_worked_out_by_hand(folder: Path):
    record = pipeline.recompute(folder)
    assert isinstance(record, RunRecord)
    value = {key: metric.value for key, metric in record.metrics.items()}
    assert value["ttft_s.p50"] == pytest.approx(0.2)
    assert value["tpot_s.mean"] == pytest.approx(0.04)
    assert value["itl_s.p99"] == pytest.approx(0.04)
    assert value["e2e_s.p99"] == pytest.approx(0.96)
    assert value["interactivity_tok_per_s.p50"] == pytest.approx(25)
    # Four slots of 20 tokens each 0.96 s.
    assert value["output_throughput_tok_per_s"] == pytest.approx(4 * 20 / 0.96, rel=0.01)
    assert value["gpu_average_w"] == pytest.approx(300, rel=1e-3)
    assert value["gpu_loaded_idle_w"] == pytest.approx(300, rel=1e-3)
    joules = 300 / (4 * 20 / 0.96)
    assert value["gpu_j_per_output_token"] == pytest.approx(joules, rel=0.01)
    assert value["gpu_j_per_total_token"] == pytest.approx(joules * 20 / 30, rel=0.01)
    usd = value["gpu_j_per_output_token"] / 3.6e6 * 1e6 * 0.10 * 1.2
    assert value["gpu_energy_usd_per_mtok_output"] == pytest.approx(usd)
    provisioned = value["output_throughput_tok_per_s"] / (1000 * 1.2) * 1e6
    assert value["output_tok_per_s_per_mw_provisioned"] == pytest.approx(provisioned)
    assert record.tokens["usage"] == record.tokens["server_counter"] == 800
    assert record.power_kind == "emulated"


def test_the_true_energy_lies_within_the_stated_bounds(folder: Path):
    record = pipeline.recompute(folder)
    for window in record.windows:
        (energy,) = window["energies"]
        truth = 300 * energy["duration_s"]
        assert energy["low_j"] <= truth <= energy["high_j"]
