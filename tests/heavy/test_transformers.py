"""A real `transformers serve` on the CPU serves a tiny gpt-oss with random weights."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from heavy import runs

VENV = Path(os.environ.get("JOULEMARK_TRANSFORMERS_VENV", runs.ROOT / ".build" / "transformers"))
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("model") / "tiny-gpt-oss"
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", script, folder, "weights"], check=True, timeout=120)
    return (
        "--engine", "transformers", "-m", str(folder), "-s", "engine.device=cpu",
        "-s", "engine.random_weights=true", "-s", "engine.continuous_batching=false",
        # Chat is its form, and ids are no text.
        "-s", "workload.prompts=text",
    )  # fmt: skip


def test_a_run_counts_by_usage_and_says_that_lengths_are_not_fixed(tmp_path, options):
    record = runs.finish(tmp_path, VENV, *options)
    tokens = record["tokens"]
    assert tokens["requests_failed"] == 0
    assert tokens["usage"] > 0
    assert tokens["server_counter"] is None
    assert "length_not_fixed" in {finding["code"] for finding in record["findings"]}
    assert record["provenance"]["engine"]["weights"] == "random"
    assert record["provenance"]["engine"]["version"] == "5.23.0"


def test_an_engine_killed_mid_run_leaves_a_marked_record_and_nothing_running(tmp_path, options):
    runs.check_killed(*runs.kill_mid_run(tmp_path, VENV, *options, victim="transformers"))
