"""Limits on energy in tests: they fail on evidence, and never pass modelled joules for measured."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from harness.pytest_plugin import assert_energy
from harness.stats.limit import mean_interval

ROOT = Path(__file__).resolve().parent.parent


def meters(*joules: float, kind: str = "measured", width: float = 0.01) -> list:
    return [
        SimpleNamespace(
            energies=[
                SimpleNamespace(
                    boundary="gpu", energy_j=one, low_j=one * (1 - width),
                    high_j=one * (1 + width), power_kind=kind,
                )
            ]
        )
        for one in joules
    ]  # fmt: skip


def test_the_interval_is_students():
    values = [10.0, 11.0, 9.5, 10.4]
    logs = np.log(values)
    low, high = stats.t.interval(0.9, 3, logs.mean(), stats.sem(logs))
    assert mean_interval(values) == pytest.approx((math.exp(low), math.exp(high)))
    assert mean_interval([1.0]) is None


def test_below_passes_above_fails_between_cannot_tell():
    assert_energy(meters(9.0, 9.1, 9.2), at_most_j=10)
    with pytest.raises(AssertionError, match="more than 8 J"):
        assert_energy(meters(9.0, 9.1, 9.2), at_most_j=8)
    with pytest.raises(AssertionError, match="cannot tell"):
        assert_energy(meters(9.0, 11.0), at_most_j=10)
    with pytest.raises(pytest.skip.Exception, match="cannot tell"):
        assert_energy(meters(9.0, 11.0), at_most_j=10, undecided="skip")


def test_one_repeat_is_judged_by_the_bounds_of_its_metering():
    (one,) = meters(9.95)
    with pytest.raises(AssertionError, match="cannot tell"):
        assert_energy(one, at_most_j=10)
    assert_energy(one, at_most_j=10.1)


def test_modelled_joules_do_not_pass_for_measured():
    with pytest.raises(AssertionError, match="modelled, not measured"):
        assert_energy(meters(1.0, 1.1, kind="modelled"), at_most_j=10)
    assert_energy(meters(1.0, 1.1, kind="modelled"), at_most_j=10, kind="modelled")


def test_another_boundary_is_refused():
    with pytest.raises(AssertionError, match=r"only of \['gpu'\]"):
        assert_energy(meters(1.0, 1.1), at_most_j=10, boundary="node")


def test_the_plugin_works_in_somebodys_test_suite(tmp_path: Path):
    """A suite that spins for 0.3 s, metered by the CPU model: one limit passes, one fails."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\njoulemark_power = cpu_model\n")
    (tmp_path / "test_it.py").write_text(
        "import time, pytest\n"
        "from harness.pytest_plugin import assert_energy\n"
        "def work():\n"
        "    end = time.process_time() + 0.3\n"
        "    while time.process_time() < end: pass\n"
        "@pytest.mark.parametrize('limit', [1e6, 1e-6])\n"
        "def test_it(joulemark_meter, limit):\n"
        "    found = joulemark_meter(work, repeats=2)\n"
        "    assert_energy(found, at_most_j=limit, boundary='cpu_package', kind='modelled')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "more than 1e-06 J" in done.stdout
