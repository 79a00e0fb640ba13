"""On a real card: joules are measured, and counter and integral tell the same story."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.emulator import build, make, waveform
from harness.power.nvml import kind_of

ROOT = Path(__file__).resolve().parent.parent
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")

LOOK = """
import json, pynvml
try:
    pynvml.nvmlInit()
    driver = pynvml.nvmlSystemGetDriverVersion()
    name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
except pynvml.NVMLError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"driver": driver, "name": name}))
"""
METER = """
import dataclasses, json, time
from harness.meter import metered
if __name__ == "__main__":
    with metered([("nvml", {})]) as meter:
        time.sleep(3.0)
    print(json.dumps([
        {
            "boundary": one.boundary, "kind": one.power_kind, "average_w": one.average_w,
            "bounds_j": [one.low_j, one.energy_j, one.high_j],
            "disagreement_ratio": one.disagreement_ratio,
        }
        for one in meter.energies
    ]))
"""
LOADED_BEFORE = """
import ctypes, json, sys
ctypes.CDLL(sys.argv[1])
import test_gpu_card
print(json.dumps(test_gpu_card.answer_of(test_gpu_card.LOOK)))
"""


def answer_of(script: str, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """
    What *script* says in a process of its own.

    A library that a process has loaded is what it gets ever after: the emulator's, where a
    test loaded that before this one.
    """
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            **(os.environ if environment is None else environment),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def real_card(environment: dict[str, str] | None = None) -> str:
    """The first GPU's name; the test is skipped, with the reason, where none is real."""
    seen = answer_of(LOOK, environment=environment)
    if "error" in seen:
        pytest.skip(f"needs a real NVIDIA GPU: NVML says {seen['error']!r}")
    if kind_of(seen["driver"]) != "measured":
        pytest.skip(f"needs a real NVIDIA GPU: driver {seen['driver']} is joulemark's emulator")
    return str(seen["name"])


@pytest.fixture
def library(tmp_path):
    return build.build(tmp_path / "library")


@pytest.mark.gpu
def test_three_seconds_of_a_real_card_are_measured():
    card = real_card()
    energies = answer_of(METER)
    energy = next(one for one in energies if one["boundary"] in {"gpu", "gpu_module"})
    assert energy["kind"] == "measured"
    assert energy["bounds_j"] == sorted(energy["bounds_j"]), card
    # No card idles below 5 W or above its hardest limit.
    assert 5 < energy["average_w"] < 1500
    if energy["disagreement_ratio"] is not None:
        assert energy["disagreement_ratio"] < 0.1


@needs_compiler
def test_an_emulated_card_never_counts_as_real(library, tmp_path):
    """It is skipped by name, and what it meters says that it is emulated."""
    world = make.make_world([waveform.constant(power_w=300.0)]).write(tmp_path / "world.txt")
    emulated = build.environment(world, library=library)
    with pytest.raises(pytest.skip.Exception, match="is joulemark's emulator"):
        real_card(emulated)
    assert {one["kind"] for one in answer_of(METER, environment=emulated)} == {"emulated"}


@needs_compiler
def test_an_emulator_loaded_before_changes_nothing(library):
    """Whichever tests ran in this process, a card is seen as by a process that ran none."""
    here = answer_of(LOADED_BEFORE, str(library / build.LIBRARY_NAME))
    assert here == answer_of(LOOK)
