"""Regressions by turns: order, stopping, error rate, refusals, cooling down; and a real one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random

import pytest
from verdict_runs import ENERGY, SPEED, record

from harness.compare.sets import StoredRun
from harness.cooldown import Cooldown
from harness.errors import ConfigError, PowerUnavailableError
from harness.record import Finding
from harness.regress.loop import orders, regress
from harness.regress.text import document, lines, markdown

KEYS = {ENERGY: 0.02, SPEED: 0.02}


class Machine:
    """Makes records with given scatter and drift, and a clock that each run moves by a minute."""

    def __init__(self, cand: float, *, sd: float = 0.01, drift: float = 0.0, seed: int = 0) -> None:
        self.factor = {"base": 1.0, "cand": cand}
        self.random = random.Random(seed)  # noqa: S311 - a test's
        self.sd, self.drift = sd, drift
        self.count = 0

    def run(self, side: str) -> StoredRun:
        self.count += 1
        factor = self.factor[side] * self.random.gauss(1, self.sd) * (1 + self.drift * self.count)
        return StoredRun(record=record(f"{side}-{self.count}", factor, minute=self.count))

    def clock_s(self) -> float:
        return 60.0 * self.count

    def regress(self, **options):
        options = {"thresholds": KEYS, "clock_s": self.clock_s} | options
        return regress(self.run, **options)


def test_the_order_is_abba_or_baab_by_lot():
    names = {"base": "A", "cand": "B"}
    seen = set()
    for seed in range(8):
        pairs = list(itertools.islice(orders(seed), 4))
        word = "".join(names[side] for pair in pairs for side in pair)
        assert word[:4] in {"ABBA", "BAAB"}
        assert word[4:] in {"ABBA", "BAAB"}
        seen.add(word)
    assert len(seen) > 1


def test_a_large_regression_is_found_in_a_few_pairs():
    found = Machine(1.3).regress()
    assert found.word == "worse"
    assert found.stopped == "verdict"
    assert len(found.base) == len(found.cand) <= 6
    assert found.order.count("A") == found.order.count("B")


def test_an_improvement_is_called_one():
    found = Machine(0.8).regress()
    assert found.word == "better"
    assert {row.sequential.word for row in found.rows} == {"better"}


def test_the_same_build_twice_is_the_same_and_seldom_an_alarm():
    words = [Machine(1.0, sd=0.004, seed=seed).regress().word for seed in range(20)]
    assert words.count("same") >= 19


def test_a_drift_is_not_taken_for_a_change():
    """Half a percent a run: between first and second of a pair as much as over the whole."""
    words = [
        Machine(1.0, sd=0.002, drift=0.005, seed=seed).regress(seed=seed).word for seed in range(20)
    ]
    assert "worse" not in words
    assert "better" not in words


def test_the_most_pairs_end_it_without_a_verdict():
    machine = Machine(1.0, sd=0.2)
    found = machine.regress(max_pairs=4)
    assert (found.word, found.stopped) == ("cannot tell", "pairs")
    assert machine.count == 8


def test_no_pair_is_begun_that_would_end_after_the_budget():
    machine = Machine(1.0, sd=0.2)
    found = machine.regress(budget_s=11 * 60.0)
    assert found.stopped == "budget"
    assert machine.count == 10


def test_the_user_can_stop_it_and_a_half_pair_is_not_judged():
    machine = Machine(1.3)

    def run(side):
        one = machine.run(side)
        if machine.count >= 5:
            return StoredRun(record=dataclasses.replace(one.record, status="incomplete"))
        return one

    found = regress(
        run,
        thresholds=KEYS,
        clock_s=machine.clock_s,
        stopping=lambda: machine.count >= 5,
    )
    assert machine.count == 5
    assert found.stopped == "user"
    assert found.rows[0].sequential.pairs == 2
    assert found.word == "cannot tell"


def test_unlike_sides_are_refused_after_the_first_pair():
    def run(side):
        return StoredRun(record=record(f"{side}-1", config__load__concurrency=ord(side[0])))

    with pytest.raises(ConfigError, match=r"load\.concurrency"):
        regress(run, thresholds=KEYS, clock_s=lambda: 0.0)


def test_too_few_pairs_to_ever_decide_are_refused():
    with pytest.raises(ConfigError, match="never decide"):
        Machine(1.0).regress(max_pairs=3)


def test_a_command_does_the_same_work_so_less_energy_is_better():
    def energetic(factor):
        machine = Machine(1.0)

        def run(side):
            one = machine.run(side).record
            value = one.metrics["gpu_energy_j"]
            scale = factor if side == "cand" else 1.0
            scale *= machine.random.gauss(1, 0.01)
            one.metrics["gpu_energy_j"] = type(value)(value=value.value * scale, unit="J", n=1)
            return StoredRun(record=one)

        return regress(
            run, thresholds={"gpu_energy_j": 0.02}, same_work=True, clock_s=machine.clock_s
        )

    assert energetic(1.3).word == "worse"
    assert energetic(0.8).word == "better"


def test_a_spoilt_run_is_repeated_and_that_is_said():
    machine = Machine(1.3)
    spoilt = Finding(code="client_late", severity="invalid", message="the client was late")

    def run(side):
        one = machine.run(side)
        if machine.count == 3:
            one.record.findings.append(spoilt)
        return one

    found = regress(run, thresholds=KEYS, clock_s=machine.clock_s)
    assert found.word == "worse"
    assert len([one for one in found.findings if one.code == "run_repeated"]) == 1
    assert "the client was late" in found.findings[0].message
    assert machine.count == len(found.base) + len(found.cand) + 1


def test_runs_that_are_always_spoilt_are_refused():
    machine = Machine(1.0)

    def run(side):
        one = machine.run(side)
        one.record.findings.append(Finding(code="x", severity="invalid", message="spoilt"))
        return one

    with pytest.raises(ConfigError, match="spoilt"):
        regress(run, thresholds=KEYS, clock_s=machine.clock_s)


def test_what_differs_is_named_and_the_texts_hold_the_verdict():
    machine = Machine(1.3)

    def run(side):
        one = machine.run(side).record
        one.provenance["engine"]["settings"] = {"threads": 1 if side == "base" else 2}
        return StoredRun(record=one)

    found = regress(run, thresholds=KEYS, clock_s=machine.clock_s)
    assert [one.key for one in found.suspects] == ["engine.settings.threads"]
    assert "engine.settings.threads: 1 → 2" in markdown(found)
    assert lines(found)[-1].startswith("worse after ")
    assert document(found)["word"] == "worse"


def test_it_waits_until_the_gpu_is_as_cool_as_at_first():
    temperatures = iter([40.0, 50.0, 45.0, 41.5, 60.0])
    waits = []
    cool = Cooldown(
        lambda: {"GPU-1": next(temperatures)}, rest_s=3, patience_s=60,
        wait=lambda seconds: bool(waits.append(seconds)),
    )  # fmt: skip
    assert cool() == []
    assert cool() == []
    assert waits == [3, 1.0, 1.0]


def test_a_gpu_that_stays_hot_is_said_to_be():
    temperatures = itertools.chain([40.0], itertools.repeat(50.0))
    cool = Cooldown(
        lambda: {"GPU-1": next(temperatures)}, rest_s=0, patience_s=5, wait=lambda _: False
    )
    cool()
    assert [one.code for one in cool()] == ["hot_start"]


def test_without_a_thermometer_it_rests_and_says_so():
    waits = []
    cool = Cooldown(dict, rest_s=2, patience_s=5, wait=lambda s: bool(waits.append(s)))
    assert [one.code for one in cool()] == ["start_temperature_unknown"]
    assert cool() == []
    assert waits == [2]


def test_commands_are_compared_by_their_energy(joulemark, tmp_path):
    """Spinning for three times as long takes more energy by the CPU model, labelled as such."""
    spin = "python3 -c 'import time\nt=time.process_time()\nwhile time.process_time()-t < {}: pass'"
    done = joulemark(
        "regress", "--base-command", spin.format(0.2), "--cand-command", spin.format(0.6),
        "--power", "cpu_model", "--rest", "0", "--json", "--fail-on", "cpu_package_energy_j:20%",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["word"] == "worse"
    assert found["power_kind"] == "modelled"
    assert any(one["code"] == "power_not_measured" for one in found["findings"])
    assert len(list((tmp_path / "runs").iterdir())) == 2 * len(found["base"])


def test_a_command_that_fails_ends_it(joulemark):
    done = joulemark(
        "regress", "--base-command", "true", "--cand-command", "false", "--power", "cpu_model",
        "--rest", "0", "--fail-on", "cpu_package_energy_j:20%",
    )  # fmt: skip
    assert done.returncode == 2
    assert "exit code 1" in done.stderr


def test_a_command_against_a_configuration_is_refused(joulemark):
    done = joulemark("regress", "quickstart", "--base-command", "true")
    assert done.returncode == 2
    assert "--cand-command" in done.stderr
    assert PowerUnavailableError.__name__ not in done.stderr


# Joules of the CPU model count the engine's own CPU seconds, which a busy machine stretches far
# less than it stretches seconds; the share of idle cores, which it does stretch, is left out.
REAL = (
    "regress", "quickstart", "-s", "engine.kind=llama_cpp", "-s", "engine.threads=1",
    "-s", "load.concurrency=4", "-s", "load.duration_s=60.0", "-s", "load.request_count=12",
    "-s", "load.warmup_request_count=2", "-s", "window.kind=run", "-s", "window.min_s=0.1",
    "-s", "window.refuse_below_s=0.1", "-s", "power.idle_s=0.0",
    "-s", "power.sources=['cpu_model']", "-s", "power.cpu_model.idle_w_per_core=0.0",
    "-s", "workload.isl_tokens=8", "-s", "workload.osl_tokens=24",
    "--fail-on", "cpu_package_j_per_output_token:20%", "--rest", "0", "--allow", "invalid",
    "--json",
)  # fmt: skip


@pytest.mark.engine
@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_real_engine_with_too_few_slots_is_found(joulemark, model):
    """llama.cpp serves four users by one slot: each token reads the weights for itself alone."""
    assert model.is_file()
    done = joulemark(
        *REAL, "--base", "engine.slots=4", "--cand", "engine.slots=1", "--max-pairs", "16",
        timeout_s=1700,
    )  # fmt: skip
    found = json.loads(done.stdout)
    print(done.stderr.splitlines()[-1])  # noqa: T201 - `make test-regress` shows it
    assert found["word"] == "worse", done.stderr
    assert done.returncode == 1
    assert found["power_kind"] == "modelled"
    assert {"engine.settings.slots", "engine.config.slots"} <= {
        one["key"] for one in found["suspects"]
    }


@pytest.mark.engine
@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_the_same_real_engine_twice_is_no_alarm(joulemark, model):
    assert model.is_file()
    done = joulemark(*REAL, "--max-pairs", "6", timeout_s=1700)
    found = json.loads(done.stdout)
    print(done.stderr.splitlines()[-1])  # noqa: T201 - `make test-regress` shows it
    assert found["word"] in {"same", "cannot tell"}, done.stderr
    assert done.returncode in {0, 2}
    assert len(found["base"]) >= 2
