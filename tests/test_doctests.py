"""Every example in a docstring runs, and gives what stands below it."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "exporters", "workloads")
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)


def examples_in(path: Path) -> int:
    """How many examples a file shows."""
    return len(EXAMPLE.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "path",
    [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if examples_in(path)
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_files_examples_hold(path: Path):
    """All of them: one that doctest does not find, in an inner function say, would never run."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    try:
        module = importlib.import_module(name.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in PACKAGES:
            raise
        pytest.skip(f"{error.name} is not installed; an extra of pyproject.toml has it")
    found: list[str] = []
    runner = doctest.DocTestRunner()
    for case in doctest.DocTestFinder().find(module):
        runner.run(case, out=found.append)
    assert not runner.failures, "".join(found)
    assert runner.tries == examples_in(path)
