"""Tests on engines that take minutes to install: skipped unless asked for."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "heavy: runs an engine from an environment of its own (make test-vllm, …)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("JOULEMARK_HEAVY") == "1":
        return
    why = "set JOULEMARK_HEAVY=1; `make test-vllm`, `test-transformers`, `test-dynamo` do"
    for item in items:
        if "heavy" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))
