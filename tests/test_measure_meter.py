"""The library: three lines, and a fixture."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import PowerUnavailableError
from harness.meter import metered

ROOT = Path(__file__).resolve().parent.parent


def spend(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_block_of_code_is_metered():
    with metered([("scripted", {"high_w": 200.0})]) as meter:
        spend(0.6)
    (energy,) = meter.energies
    assert meter.joules["gpu"] == pytest.approx(200 * energy.window.duration_s, rel=0.02)
    assert energy.window.duration_s == pytest.approx(0.6, abs=0.21)
    assert meter.power_kind == "emulated"


def fail_after(seconds):
    spend(seconds)
    raise ZeroDivisionError


def test_what_was_drawn_until_an_error_is_known():
    scripted = metered([("scripted", {})])
    with pytest.raises(ZeroDivisionError), scripted as meter:
        fail_after(0.4)
    assert meter.joules["gpu"] > 0


def test_without_a_sensor_the_block_does_not_run():
    with (
        pytest.raises(PowerUnavailableError),
        metered([("scripted", {"fail": "no meter"})]),
    ):
        pytest.fail("the block ran")


def test_the_fixture_skips_with_a_reason_where_nothing_can_be_read(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        "def test_it(joulemark_meter):\n    joulemark_meter(list, repeats=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if Path("/sys/class/powercap/intel-rapl:0/energy_uj").exists():
        pytest.skip("this machine has a sensor")
    assert "1 skipped" in done.stdout
    assert "no energy sensor" in done.stdout
