"""What doctor says of sources that work, fail, and lie."""

from __future__ import annotations

import json
import os
import time

import pytest

from harness import doctor, surroundings
from harness.clock import WallAnchor
from harness.errors import ConfigError


def test_a_scripted_source_is_described_and_called_emulated():
    found = doctor.examine([("scripted", {"high_w": 150.0})], listen_s=1.0)
    (source,) = found.sources
    assert found.power_kind == "emulated"
    assert "never results" in found.verdict
    energy, power = source.channels
    assert energy.tick_s == pytest.approx(0.1, abs=0.06)
    assert energy.watts == pytest.approx(150, rel=0.2)
    assert power.watts == pytest.approx(150)
    assert energy.faults == 0
    assert energy.call_us is not None


def test_a_source_that_does_not_open_says_why():
    found = doctor.examine([("scripted", {"fail": "the meter is unplugged"})], listen_s=0.5)
    assert "the meter is unplugged" in (found.sources[0].problem or "")
    assert found.power_kind == "none"
    assert found.verdict.startswith("No energy sensor")


def test_a_machine_with_a_model_alone_is_told_so():
    found = doctor.examine([("cpu_model", {})], listen_s=0.5)
    assert found.power_kind == "modelled"
    assert "decides nothing" in found.verdict


def test_a_lost_device_is_a_problem():
    found = doctor.examine([("scripted", {"lost_after_s": 0.3})], listen_s=0.8)
    assert {remark.code for remark in found.remarks if remark.weight == "problem"} >= {"faults"}


def test_a_wall_clock_that_was_stepped_is_noticed():
    now = WallAnchor.now()
    stepped = WallAnchor(now.t_monotonic_ns, now.t_wall_ns - 50_000_000, 0)
    assert surroundings.clock(stepped).code == "wall_clock_steps"
    assert surroundings.clock(now).code == "clock"


GPU = {"persistence_mode": 1, "mig_mode": 0, "compute_pids": [], "power_limit_w": 700.0}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"compute_pids": [1]}, "other_tenants"),
        ({"persistence_mode": 0}, "no_persistence"),
        ({"mig_mode": 1}, "mig"),
        ({"power_limit_default_w": 500.0}, "power_capped"),
    ],
)
def test_what_speaks_against_a_gpu_is_said(facts, code):
    assert [remark.code for remark in surroundings.of_gpu("g", GPU | facts)] == [code]
    assert surroundings.of_gpu("g", GPU | {"compute_pids": [os.getpid()]}) == []


def test_the_command_prints_one_json_document(joulemark):
    done = joulemark("doctor", "--json", "--power", "cpu_model", "--listen", "0.5")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["power_kind"] == "modelled"
    assert found["sources"][0]["channels"][0]["boundary"] == "cpu_package"


def test_the_command_says_what_can_be_trusted(joulemark):
    began = time.monotonic()
    done = joulemark("doctor", "--power", "cpu_model", "--listen", "0.5")
    assert time.monotonic() - began < 60
    assert done.stdout.startswith("No energy sensor can be read here")
    assert "cpu_model:energy" in done.stdout


def test_a_source_that_does_not_exist_is_bad_input(joulemark):
    done = joulemark("doctor", "--power", "nvmll")
    assert done.returncode == 2
    assert "did you mean 'nvml'" in done.stderr


def test_unknown_options_are_bad_input():
    with pytest.raises(ConfigError, match="wavform"):
        doctor.examine([("scripted", {"wavform": 1})], listen_s=0.5)
