from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from harness import models

# No deadlines and no speed checks: the machines that run these are shared and noisy.
hypothesis.settings.register_profile(
    "joulemark",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
hypothesis.settings.load_profile("joulemark")

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def model() -> Path:
    """The real small model; `make test` fetches it, and without it the tests fail, not skip."""
    return models.resolve_gguf("smollm2-135m")


@pytest.fixture
def joulemark(tmp_path: Path) -> Run:
    """Run the command line as a user does: another process, another folder."""

    def run(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="make the golden run folder anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need minutes, gigabytes or a quiet machine run only when asked for."""
    if os.environ.get("JOULEMARK_HEAVY") == "1":
        return
    why = "set JOULEMARK_HEAVY=1; `make test-vllm`, `test-regress`, … do"
    for item in items:
        if "heavy" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))
