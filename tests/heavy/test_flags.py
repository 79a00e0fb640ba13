"""Every flag that our commands may hold is declared in the engines' released sources."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from heavy import runs

from harness import plugins
from harness.engines import _several as several

SOURCES = Path(os.environ.get("JOULEMARK_FLAGS", runs.ROOT / ".build" / "flags"))
VLLM = Path(os.environ.get("JOULEMARK_VLLM_VENV", runs.ROOT / ".build" / "vllm")) / "bin" / "vllm"
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def argvs(kind: str, **options) -> list[list[str]]:
    engine = plugins.load("engine", kind)(**{"model": "m", "port": 8000, **options})
    return [p["argv"] for p in several.plan_of(engine.launch().argv)["programs"]]


def flags(argv: list[str]) -> set[str]:
    return {word for word in argv if word.startswith("--")}


def literals(*folders: Path) -> set[str]:
    """Every string that is a flag, in all Python files of some folders."""
    return {
        node.value
        for folder in folders
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"--[a-z][a-z0-9-]*", node.value)
    }


def sglang_fields() -> Iterator[str]:
    """Since 0.5.23 a flag is a field `name: A[type, …]`, unless it says `no_cli`."""
    for path in (SOURCES / "sglang" / "srt" / "arg_groups" / "fields").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(node.annotation, ast.Subscript)
                and getattr(node.annotation.value, "id", "") == "A"
                and "no_cli=True" not in ast.unparse(node.annotation)
            ):
                yield "--" + node.target.id.replace("_", "-")


def sglang_declares() -> set[str]:
    found = set(sglang_fields())
    assert len(found) > 200, "its sources have moved: look where flags are declared now"
    return found


MOST_OF_SGLANG = {
    "tensor_parallel_size": 8, "pipeline_parallel_size": 2, "data_parallel_size": 2,
    "expert_parallel_size": 4, "context_length": 4096, "max_running_requests": 64,
    "mem_fraction_static": 0.8, "prefix_caching": False, "load_format": "dummy",
}  # fmt: skip


@pytest.mark.parametrize("dp_attention", [False, True])
def test_sglang_0_5_23_declares_every_flag_of_ours_and_deprecates_none(dp_attention):
    (argv,) = argvs("sglang", dp_attention=dp_attention, **MOST_OF_SGLANG)
    assert len(flags(argv)) >= 13
    assert flags(argv) <= sglang_declares()


def test_sglang_0_5_23_still_has_the_pages_and_fields_that_are_asked_for():
    server = (SOURCES / "sglang" / "srt" / "entrypoints" / "http_server.py").read_text()
    for page in ("/health", "/server_info"):
        assert f'"{page}"' in server
    protocol = (SOURCES / "sglang" / "srt" / "entrypoints" / "openai" / "protocol.py").read_text()
    for field in ("continuous_usage_stats", "include_usage", "ignore_eos", "cached_tokens"):
        assert field in protocol


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm", "mocker"])
@pytest.mark.parametrize("mode", ["aggregated", "disaggregated"])
def test_dynamo_1_6_1_and_its_backends_declare_every_flag_of_ours(backend, mode):
    frontend, *workers = argvs(
        "dynamo", backend=backend, mode=mode, max_model_len=512, prefix_caching=False
    )
    dynamo = SOURCES / "dynamo"
    common = literals(dynamo / "common")
    assert flags(frontend) <= common | literals(dynamo / "frontend")
    # Its vLLM and SGLang workers take the flags of these engines besides their own.
    beside = {"sglang": sglang_declares(), "vllm": vllm_declares()}.get(backend, set())
    for worker in workers:
        assert worker[2] == f"dynamo.{backend}"
        assert flags(worker) <= common | literals(dynamo / backend) | beside


@functools.cache
def vllm_declares() -> set[str]:
    if not VLLM.exists():
        pytest.skip("no vLLM here: tests/heavy/vllm.sh makes its environment")
    done = subprocess.run(
        [VLLM, "serve", "--help=all"], capture_output=True, text=True, timeout=300, check=True
    )
    return set(re.findall(r"--[a-z][a-z0-9-]*", done.stdout))


def test_vllm_0_32_declares_every_flag_of_ours():
    for caching in (True, False):
        (argv,) = argvs(
            "vllm", tensor_parallel_size=2, pipeline_parallel_size=2, data_parallel_size=2,
            expert_parallel=True, max_model_len=4096, max_num_seqs=64, max_num_batched_tokens=8192,
            gpu_memory_utilization=0.9, prefix_caching=caching, enforce_eager=True,
        )  # fmt: skip
        assert len(flags(argv)) >= 14
        assert flags(argv) <= vllm_declares()
