"""NVML as the sampler sees it, through the emulated driver: scopes, selection, faults."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.emulator import build, make, waveform
from harness.emulator.world import Fault

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
ROOT = Path(__file__).resolve().parent.parent

CLIENT = """
import dataclasses, json, sys, time
from harness.errors import PowerUnavailableError
from harness.power.nvml import Nvml

def together(session):
    batch = session.batch(range(len(session.calls)))
    values, statuses = batch.answers([ask() for ask in batch.asks])
    return values, map(int, statuses)

try:
    session = Nvml(**json.loads(sys.argv[1])).open()
except PowerUnavailableError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
time.sleep(float(sys.argv[2]))
print(json.dumps({
    "channels": [[dataclasses.asdict(c) for c in call] for call in session.calls],
    "reads": [[[str(value), int(status)] for value, status in session.read(i)]
              for i in range(len(session.calls))],
    "batch": [list(map(str, part)) for part in together(session)],
    "facts": session.facts(),
}))
session.close()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build.build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def ask(library, tmp_path):
    """Open NVML in a process that loads the emulated library, and read each call once."""

    def run(world, *, wait_s=0.0, environment=None, **options):
        path = world.write(tmp_path / "world.txt")
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, json.dumps(options), str(wait_s)],
            env={
                **os.environ,
                **build.environment(path, library=library),
                "PYTHONPATH": str(ROOT),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def world(gpus=1, arch="h100", **changes):
    made = make.make_world([waveform.constant(power_w=300.0)], gpus=gpus, arch=arch, seed=4)
    return dataclasses.replace(made, **changes)


def names(answer):
    return {
        (channel["boundary"], channel["sense"]) for call in answer["channels"] for channel in call
    }


def test_an_h100_has_a_counter_and_two_powers_and_says_that_it_is_emulated(ask):
    answer = ask(world())
    assert {("gpu", "counter"), ("gpu", "instant"), ("gpu", "average")} <= names(answer)
    kinds = {channel["power_kind"] for call in answer["channels"] for channel in call}
    assert kinds == {"emulated"}
    # One call for the counter, one for all powers of the GPU.
    assert len(answer["channels"]) == 2
    assert {status for call in answer["reads"] for _, status in call} == {0}
    assert float(answer["reads"][1][0][0]) == pytest.approx(300.0, abs=0.01)


def test_on_a_superchip_the_counter_covers_the_module(ask):
    answer = ask(world(arch="gh200"))
    assert ("gpu_module", "counter") in names(answer)
    assert ("gpu", "counter") not in names(answer)
    assert ("gpu", "instant") in names(answer)


def test_a_gpu_without_a_counter_is_metered_by_its_power(ask):
    broken = Fault(kind="not_supported", start_s=-1, touches="energy")
    answer = ask(world(faults=(broken,)))
    assert ("gpu", "counter") not in names(answer)
    assert ("gpu", "instant") in names(answer)


def test_a_gpu_without_any_sensor_is_refused_with_a_remedy(ask):
    faults = tuple(
        Fault(kind="not_supported", start_s=-1, touches=what) for what in ("energy", "power")
    )
    assert "vGPU" in ask(world(faults=faults))["error"]


def test_a_gpu_that_is_lost_is_a_reading(ask):
    lost = Fault(kind="lost", start_s=1.5)
    answer = ask(world(faults=(lost,)), wait_s=2.0)
    statuses = {status for call in answer["reads"] for _, status in call}
    assert statuses == {3}
    assert {value for call in answer["reads"] for value, _ in call} == {"nan"}


@pytest.mark.parametrize(
    ("kind", "status"), [("no_permission", 2), ("timeout", 7), ("reset_required", 4)]
)
def test_each_error_of_the_driver_keeps_its_name(ask, kind, status):
    fault = Fault(kind=kind, start_s=1.5, touches="energy")
    answer = ask(world(faults=(fault,)), wait_s=2.0)
    assert answer["reads"][0] == [["nan", status]]


@pytest.mark.parametrize("fault", ["energy", "power", None])
def test_a_batch_reads_what_its_calls_read_one_by_one(ask, fault):
    """All GPUs' calls at once: one number, or three fields; a fault stays where it is."""
    faults = (Fault(kind="timeout", gpu=1, start_s=1.0, touches=fault),) if fault else ()
    answer = ask(world(gpus=3, faults=faults), wait_s=1.5)
    alone = [reading for call in answer["reads"] for reading in call]
    assert answer["batch"][1] == [str(status) for _, status in alone]
    # The power is constant; the counters tick on between the one reading and the other.
    for value, (single, _), channel in zip(
        answer["batch"][0],
        alone,
        [channel for call in answer["channels"] for channel in call],
        strict=True,
    ):
        margin = 300.0 if channel["quantity"] == "energy" else 0.01
        assert float(value) == pytest.approx(float(single), abs=margin, nan_ok=True)
    faulty = {
        (channel["device"], channel["quantity"])
        for call, readings in zip(answer["channels"], answer["reads"], strict=True)
        for channel, (_, status) in zip(call, readings, strict=True)
        if status
    }
    assert faulty == ({(uuids(world(gpus=3))[1], fault)} if fault else set())


def test_a_driver_without_a_function_has_no_such_sensor(library, tmp_path):
    script = """
import pynvml
from harness.power import _nvml_queries
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
missing = _nvml_queries.Query(handle=handle, function="nvmlDeviceGetNothing")
batch = _nvml_queries.Batch([_nvml_queries.usage(handle), missing])
print([(str(value), int(status)) for value, status in batch.read()])
"""
    path = world().write(tmp_path / "world.txt")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            **build.environment(path, library=library),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[('300.0', 0), ('nan', 1)]"


def uuids(made):
    return [gpu.device_uuid for gpu in made.gpus]


def metered(answer):
    return list(dict.fromkeys(channel["device"] for call in answer["channels"] for channel in call))


def test_cuda_visible_devices_is_understood_as_indices_and_as_uuids(ask):
    made = world(gpus=3)
    first, second, third = uuids(made)
    by_index = ask(made, environment={"CUDA_VISIBLE_DEVICES": "2,0"})
    assert metered(by_index) == [third, first]
    by_uuid = ask(made, environment={"CUDA_VISIBLE_DEVICES": second})
    assert metered(by_uuid) == [second]
    by_beginning = ask(made, environment={"CUDA_VISIBLE_DEVICES": second[:12]})
    assert metered(by_beginning) == [second]


def test_devices_that_were_named_win_over_the_environment(ask):
    made = world(gpus=2)
    answer = ask(made, devices=["1"], environment={"CUDA_VISIBLE_DEVICES": "0"})
    assert metered(answer) == uuids(made)[1:]


@pytest.mark.parametrize(
    ("environment", "options", "match"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, {}, "hides every GPU"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, {}, "hides every GPU"),
        ({}, {"devices": ["7"]}, "finds 2"),
        ({}, {"devices": ["GPU-nothing"]}, "fits 0 of 2"),
    ],
)
def test_devices_that_are_not_there_are_refused_by_name(ask, environment, options, match):
    assert match in ask(world(gpus=2), environment=environment, **options)["error"]


def test_a_mig_slice_is_metered_as_its_parent(ask):
    made = world()
    gpus = (dataclasses.replace(made.gpus[0], migs=2),)
    made = dataclasses.replace(made, gpus=gpus)
    # The emulator's name of the first slice, see harness/emulator/nvml.c.
    answer = ask(made, devices=[f"MIG-{uuids(made)[0][4:38]}00"])
    assert metered(answer) == uuids(made)
    assert next(iter(answer["facts"]["gpus"].values()))["mig_mode"] == 1


def test_the_facts_hold_what_watts_depend_on(ask):
    facts = ask(world())["facts"]
    gpu = next(iter(facts["gpus"].values()))
    assert facts["driver"].startswith("emulated")
    assert gpu["power_limit_w"] == 700.0
    assert gpu["persistence_mode"] == 1
    assert gpu["temperature_c"] > 0
    assert "power_policy" in gpu["throttle_counters"]
    assert gpu["compute_pids"] == []


def test_without_a_driver_there_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, "{}", "0"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answer = json.loads(done.stdout)
    if "error" not in answer:
        pytest.skip("this machine has a real driver")
    assert "install the NVIDIA driver" in answer["error"]
