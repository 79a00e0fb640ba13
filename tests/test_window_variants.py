"""One stored run gives our window, the whole run and ML.ENERGY's, each by its own rule."""

from __future__ import annotations

import hashlib
from pathlib import Path

import golden_run
import numpy as np
import pandas as pd
import pytest

from harness import pipeline, store
from harness.timeline import EVENT_DTYPE, EventKind
from harness.window_variants import ml_energy_window

S = 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    golden_run.make(tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_three_windows_of_one_run_computed_by_hand(folder):
    """
    4 slots, 10 rounds of 0.96 s, the slots 1 ms apart; first token after 0.2 s.

    The fourth first token comes at 0.203 s. Of 40 requests 35 have finished
    after 8 full rounds and three more: at 9 x 0.96 + 0.002 s.
    """
    pipeline.finish(folder)
    before = contents(folder)
    windows = {
        kind: pipeline.with_window(folder, kind).windows[0]
        for kind in ("steady", "run", "ml_energy")
    }
    seconds = {
        kind: [(window[edge] - golden_run.START) / S for edge in ("start_ns", "end_ns")]
        for kind, window in windows.items()
    }
    assert seconds["ml_energy"] == pytest.approx([0.203, 9 * 0.96 + 0.002])
    assert seconds["run"] == pytest.approx([0.0, 10 * 0.96 + 0.003], abs=1e-6)
    assert seconds["steady"][0] > seconds["ml_energy"][0]
    assert contents(folder) == before


def test_constant_power_gives_the_same_watts_in_every_window(folder):
    store.seal(folder)
    for kind in ("steady", "run", "ml_energy"):
        record = pipeline.with_window(folder, kind)
        assert record.config["window"]["kind"] == kind
        assert record.metrics["gpu_average_w"].value == pytest.approx(golden_run.WATTS, rel=0.02)


def events(requests: int, gap_ns: int = S) -> tuple[np.ndarray, pd.DataFrame]:
    rows = np.zeros(requests, dtype=EVENT_DTYPE)
    rows["t_ns"] = np.arange(requests) * gap_ns
    rows["request"] = np.arange(requests)
    rows["kind"] = EventKind.CHUNK
    return rows, pd.DataFrame({"t_end_ns": pd.array(rows["t_ns"] + S // 2, dtype="Int64")})


@pytest.mark.parametrize(("requests", "slots"), [(3, 4), (5, 4), (6, 4)])
def test_too_few_requests_give_no_window_and_say_why(requests, slots):
    found = ml_energy_window(*events(requests), max_num_seqs=slots)
    assert found.window is None
    assert found.findings[0].code == "no_ml_energy_window"


def test_an_open_loop_has_no_such_window():
    found = ml_energy_window(*events(50), max_num_seqs=None)
    assert found.window is None
    assert "no concurrency" in found.findings[0].message
