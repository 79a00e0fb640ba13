"""Whether a run can be trusted: each reason is found, and what is not known is not `good`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import pytest
from verdict_runs import folders, golden, record, side

from harness.checks import check
from harness.conditions import conditions, moved_counters, wall_step_s
from harness.record import Finding
from harness.repeats import check_repeats, precision, trust
from harness.stats.precision import half_width_ratio, runs_needed, spread
from harness.subjects import SUBJECTS

GPU = {
    "temperature_c": 35,
    "throttle_counters": {"hw_thermal": 5, "power_policy": 7, "low_utilisation": 1},
    "compute_pids": [],
}
AUDIT = {"requested_concurrency": 4, "processes": 1}


def provenance(start=None, stop=None, **more):
    """Of a run on one GPU, in order unless told otherwise."""
    facts = [{"nvml": {"gpus": {"GPU-1": {**GPU, **(one or {})}}}} for one in (start, stop)]
    return {
        "power": {"at_start": facts[0], "facts_at_stop": facts[1]},
        "anchor": {"t_monotonic_ns": 1000, "t_wall_ns": 5000, "uncertainty_ns": 1},
        "anchor_at_stop": {"t_monotonic_ns": 3000, "t_wall_ns": 7000, "uncertainty_ns": 1},
        "machine": {"load_average_1min": 0.1, "cpus_usable": 16},
        "engine": {"weights": "real", "engine": "vllm", "version": "1"},
        "client_measure": AUDIT,
        "client_certificate": {"streams": 64},
        **more,
    }


def sound(**changed):
    """A run against which nothing speaks, but what is changed."""
    return dataclasses.replace(
        golden(), power_kind="measured", findings=[], provenance=provenance(), **changed
    )


def weights_of(one):
    return {found.code: found.weight for found in check(one)}


def test_a_sound_run_is_good_in_every_subject():
    assert weights_of(sound()) == dict.fromkeys(SUBJECTS, "good")


@pytest.mark.parametrize(
    ("code", "spoils"),
    [
        ("window_short", "all"),
        ("window_trend", "all"),
        ("no_steady_window", "all"),
        ("throttled", "all"),
        ("hot_start", "energy"),
        ("gpu_shared", "all"),
        ("client_overloaded", "latency"),
        ("methods_disagree", "energy"),
        ("power_gap", "energy"),
        ("tokens_disagree", "energy"),
        ("power_modelled", "energy"),
        ("never_heard_of", "all"),
    ],
)
def test_a_warning_of_the_record_is_a_problem_and_a_note_of_it_a_note(code, spoils):
    for severity, weight in (("warning", "problem"), ("invalid", "problem"), ("info", "note")):
        one = sound()
        one.findings.append(Finding(code=code, severity=severity, message="because"))
        (found,) = (item for item in check(one) if item.code == code)
        assert (found.weight, found.spoils) == (weight, spoils)
        assert found.message.startswith("because")


@pytest.mark.parametrize(
    ("changed", "code", "weight"),
    [
        ({"status": "incomplete"}, "ended", "problem"),
        ({"power_kind": "emulated"}, "power_kind", "problem"),
        ({"power_kind": None}, "power_kind", "problem"),
        ({"windows": []}, "sensors", "problem"),
        ({"windows": []}, "steady_state", "unknown"),
        ({"config": {"window": {"kind": "run"}}}, "steady_state", "problem"),
        ({"tokens": {"usage": 5, "stream": None}}, "tokens", "note"),
        ({"tokens": {}}, "tokens", "problem"),
    ],
)
def test_what_the_record_has_no_finding_for_is_read_from_its_facts(changed, code, weight):
    assert weights_of(dataclasses.replace(sound(), **changed))[code] == weight


@pytest.mark.parametrize(
    ("facts", "code", "weight"),
    [
        ({"engine": {"weights": "random"}}, "weights", "problem"),
        ({"engine": {"weights": None}}, "weights", "unknown"),
        ({"client_certificate": None}, "client", "note"),
        ({"client_certificate": {"streams": 2}}, "client", "problem"),
        ({"client_measure": {**AUDIT, "processes": 2}, "client_certificate": {"streams": 2}},
         "client", "good"),
        ({"anchor_at_stop": None}, "clock", "unknown"),
        ({"power": {}}, "throttling", "unknown"),
        ({"power": {}}, "start_temperature", "unknown"),
        ({"power": {}, "machine": {"load_average_1min": 2.0, "cpus_usable": 2}}, "alone",
         "problem"),
        ({"power": {}, "machine": {}}, "alone", "unknown"),
    ],
)  # fmt: skip
def test_what_was_not_recorded_is_unknown_and_never_good(facts, code, weight):
    one = sound()
    one.provenance.update(facts)
    assert weights_of(one)[code] == weight


def test_a_fact_does_not_contradict_the_records_finding():
    one = dataclasses.replace(sound(), power_kind="modelled")
    one.findings.append(Finding(code="power_modelled", severity="warning", message="modelled"))
    assert [item.code for item in check(one) if item.subject == "power_kind"] == ["power_modelled"]


@pytest.mark.parametrize(
    ("start", "stop", "codes"),
    [
        ({}, {}, []),
        ({}, {"throttle_counters": {"hw_thermal": 6}}, ["throttled"]),
        ({}, {"throttle_counters": {"power_policy": 8}}, ["power_limited"]),
        ({}, {"throttle_counters": {"low_utilisation": 9}}, []),
        ({}, {"throttle_counters": {"hw_thermal": 1}}, []),  # the driver was loaded anew
        ({"temperature_c": 50}, {"temperature_c": 70}, ["hot_start"]),
        ({"temperature_c": 49}, {"temperature_c": 70}, []),
        ({"compute_pids": [7]}, {}, ["gpu_shared"]),
        ({}, {"compute_pids": [7]}, ["gpu_shared"]),
    ],
)
def test_the_state_of_the_gpu_makes_findings(start, stop, codes):
    found = conditions(provenance(start, stop), launched=True)
    assert [one.code for one in found] == codes


def test_a_server_that_ran_already_is_no_other_tenant_but_a_second_one_is():
    for pids, codes in (([7], []), ([7, 8], ["gpu_shared"])):
        both = {"compute_pids": pids}
        found = conditions(provenance(both, both), launched=False)
        assert [one.code for one in found] == codes


def test_a_clock_that_was_set_is_seen_to_the_nanosecond():
    stepped = {"t_monotonic_ns": 3000, "t_wall_ns": 7000 + 2_000_000, "uncertainty_ns": 1}
    known = provenance(anchor_at_stop=stepped)
    assert wall_step_s(known) == 0.002
    assert [one.code for one in conditions(known, launched=True)] == ["wall_clock_stepped"]
    assert wall_step_s(provenance()) == 0
    assert wall_step_s({}) is None


def test_counters_read_once_say_nothing():
    assert moved_counters(provenance({"throttle_counters": None})) is None
    assert moved_counters(provenance()) == {}


def test_half_width_and_runs_needed_by_hand():
    # Student's t for 4 degrees of freedom at 97.5 % is 2.77645.
    assert half_width_ratio(0.01, 5) == pytest.approx(
        math.exp(2.77645 * 0.01 / math.sqrt(5)) - 1, rel=1e-5
    )
    assert spread([1.0]) is None
    assert spread([1.0, math.e]) == pytest.approx(1 / math.sqrt(2))
    for sd in (0.001, 0.01, 0.05):
        for wanted in (0.005, 0.02):
            needed = runs_needed(sd, wanted)
            assert half_width_ratio(sd, needed) <= wanted
            assert needed == 2 or half_width_ratio(sd, needed - 1) > wanted
    assert runs_needed(3.0, 0.001) is None


def test_few_repeats_are_a_problem_and_one_is_a_note_unless_precision_is_claimed():
    for count, claimed, weight in (
        (1, None, "note"), (1, 0.02, "problem"), (3, None, "problem"),
        (6, None, "good"), (6, 0.5, "good"), (6, 0.001, "problem"),
    ):  # fmt: skip
        runs = side("x", [1.0, 1.02, 0.98, 1.01, 0.99, 1.0][:count])
        found = check_repeats(runs, claimed, precision(runs, claimed or 0.02))
        assert {one.weight for one in found} == {weight}, (count, claimed)


def test_the_runs_needed_are_named():
    runs = side("x", [1.0, 1.02, 0.98, 1.01, 0.99])
    (one, *_) = check_repeats(runs, 0.005, fixed := precision(runs, 0.005))
    assert f"about {fixed[0].runs_needed} runs are needed" in one.message
    assert fixed[0].runs_needed > 5


def test_runs_of_different_things_are_no_repeats():
    runs = side("x", [1.0, 1.0])
    runs.runs[1].record.config["load"] = {**golden().config["load"], "concurrency": 9}
    (found,) = check_repeats(runs, None, [])
    assert found.weight == "problem"
    assert "load.concurrency" in found.message


def test_runs_that_began_at_other_temperatures_are_said_to():
    runs = side("x", [1.0] * 5)
    for place, run in enumerate(runs.runs):
        run.record.provenance["power"] = provenance({"temperature_c": 30 + 3 * place})["power"]
    codes = {one.code for one in check_repeats(runs, None, [])}
    assert "start_temperatures_differ" in codes


def test_the_verdict_is_by_what_the_problem_spoils():
    runs = side("x", [1.0] * 5)
    for run in runs.runs:
        run.record.findings.append(
            Finding(code="client_overloaded", severity="invalid", message="late")
        )
    found = trust(runs, None)
    assert found.verdict("latency") == "not trustworthy"
    assert found.verdict("energy").startswith("trustworthy as far as was recorded; not known: ")
    assert not found.trustworthy


def test_check_as_a_user_runs_it(joulemark, tmp_path):
    folders(tmp_path / "runs", side("x", [1.0, 1.01, 0.99, 1.02, 0.98]))
    done = joulemark("check", "runs", "--half-width", "50%", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["trustworthy"]
    assert len(found["runs"]) == 5
    assert {one["key"] for one in found["precision"]} >= {"gpu_j_per_output_token"}
    done = joulemark("check", "runs", "--half-width", "0.1%")
    assert done.returncode == 1
    assert "runs are needed" in " ".join(done.stdout.split())


def test_check_of_an_emulated_run_is_1_and_of_none_2(joulemark, tmp_path):
    one = record("a", kind="emulated")
    (tmp_path / "a.json").write_bytes(one.to_json())
    done = joulemark("check", "a.json")
    assert done.returncode == 1
    assert "EMULATED" in done.stdout
    for arguments in (("nowhere",), ("a.json", "--half-width", "x")):
        done = joulemark("check", *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_metered_command_is_checked_as_such(joulemark):
    """On an emulated GPU that another process shares: found in the record, and by check."""
    done = joulemark(
        "emulate", "--process", "0:4242:10:100", "--", sys.executable, "-m", "harness", "measure",
        "--power", "nvml", "-q", "-o", "m.json", "--", "sleep", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = joulemark("check", "m.json", "--json")
    assert done.returncode == 1, done.stderr
    (checks,) = json.loads(done.stdout)["runs"].values()
    weights = {one["code"]: one["weight"] for one in checks}
    assert weights["gpu_shared"] == "problem"
    assert weights["power_kind"] == "problem"
    assert weights["clock"] == "good"
    assert weights["throttling"] == "good"
    assert weights["steady_state"] == "note"
    assert weights["client"] == "unknown"
