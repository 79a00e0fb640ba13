"""A real vLLM on the CPU serves a tiny gpt-oss with random weights."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from heavy import runs

VENV = Path(os.environ.get("JOULEMARK_VLLM_VENV", runs.ROOT / ".build" / "vllm"))
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("model") / "tiny-gpt-oss"
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", script, folder], check=True, timeout=120)
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    keys = ", ".join(f"{key} = {json.dumps(value)}" for key, value in environment.items())
    return (
        "--engine", "vllm", "-m", str(folder), "-s", "engine.device=cpu",
        "-s", "engine.load_format=dummy", "-s", "engine.enforce_eager=true",
        "-s", "engine.dtype=bfloat16", "-s", "engine.max_model_len=1024",
        "-s", f"engine.environment={{ {keys} }}",
    )  # fmt: skip


def test_tokens_agree_three_ways_exactly_and_weights_are_said_to_be_random(tmp_path, options):
    record = runs.finish(tmp_path, VENV, *options)
    tokens = record["tokens"]
    assert tokens["requests_failed"] == 0
    assert tokens["usage"] == tokens["stream"] == tokens["server_counter"] > 12 * 20
    assert "osl_differs" not in {finding["code"] for finding in record["findings"]}
    assert record["provenance"]["engine"]["weights"] == "random"
    assert record["provenance"]["engine"]["version"].startswith("0.32")
    live = record["provenance"]["engine_live"]
    assert live["version"].startswith("0.32")
    assert live["settings"]["max_seq_len"] == "1024"
    assert live["settings"]["enable_prefix_caching"] == "True"
    assert record["power_kind"] == "modelled"


HARMONY = """
import openai_harmony as harmony
from workloads import _text as text
encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
for effort in ("low", "medium", "high"):
    for words, ids in zip(text.frame_text(effort), text.harmony_frame(effort), strict=True):
        assert tuple(encoding.encode(words, allowed_special="all")) == ids, (effort, words)
print("same")
"""


def test_our_harmony_frame_is_what_the_vocabulary_beside_vllm_makes_of_its_text():
    """oss-harmony, which vLLM brings, holds o200k_harmony offline."""
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", HARMONY],
        env={"PYTHONPATH": str(runs.ROOT), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "same\n", done.stderr


def test_an_engine_killed_mid_run_leaves_a_marked_record_and_nothing_running(tmp_path, options):
    runs.check_killed(*runs.kill_mid_run(tmp_path, VENV, *options, victim="vllm"))
