"""Sweeps: order, one engine for many runs, resuming, plateaus, tables; on the mock engine."""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.sweep import plan as sweep_plan
from harness.sweep import running as sweep
from harness.sweep import table as sweep_table
from harness.sweep.pareto import front

ROOT = Path(__file__).resolve().parent.parent
TABLE = {
    "engine": {"kind": "fake", "ttft_s": 0.01, "itl_s": 0.002},
    "workload": {"kind": "synthetic", "isl_tokens": 4, "osl_tokens": 8},
    "load": {"concurrency": 1, "requests_per_slot": 4, "warmup_request_count": 1},
    "power": {
        "sources": ["scripted"], "idle_s": 0.0,
        "scripted": {"high_w": 200.0},
    },
    "window": {"kind": "run", "min_s": 0.01, "refuse_below_s": 0.01},
    "sweep": {"repeats": 2, "grid": {"load.concurrency": [1, 2]}},
}  # fmt: skip
TOML = """
[engine]
kind = "fake"
ttft_s = 0.01
itl_s = 0.002
[workload]
isl_tokens = 4
osl_tokens = 8
[load]
concurrency = 1
requests_per_slot = 4
warmup_request_count = 1
[power]
sources = ["cpu_model"]
idle_s = 0.0
[window]
kind = "run"
min_s = 0.01
refuse_below_s = 0.01
[sweep]
repeats = 2
cool_down_s = 0.1
[sweep.grid]
"load.concurrency" = [1, 2, 4]
"""


def table(**sections) -> dict:
    found = copy.deepcopy(TABLE)
    for section, values in sections.items():
        found.setdefault(section, {}).update(values)
    return found


def plan(**sections) -> list[sweep_plan.Point]:
    return sweep_plan.plan(table(**sections), name="t")[1]


def test_every_combination_is_run_as_often_as_asked_with_a_seed_of_its_own():
    points = plan(
        sweep={"repeats": 3, "grid": {"load.concurrency": [1, 2], "workload.osl_tokens": [4, 8]}}
    )
    assert len(points) == len({point.key for point in points}) == 12
    assert {point.settings.seed for point in points} == set(range(12))
    for point in points:
        assert point.settings.load.concurrency == point.values["load.concurrency"]


def test_runs_of_one_engine_never_send_the_same_prompts_but_those_of_two_do():
    grid = {"engine.itl_s": [0.001, 0.002], "load.concurrency": [1, 2]}
    points = plan(sweep={"repeats": 3, "grid": grid}, run={"seed": 7})
    seeds = {}
    for point in points:
        seeds.setdefault(point.engine, {})[point.values["load.concurrency"], point.repeat] = (
            point.settings.seed
        )
    one, other = seeds.values()
    assert one == other
    assert sorted(one.values()) == list(range(7, 13))


def test_points_of_one_engine_follow_each_other_and_are_shuffled_inside():
    grid = {"engine.itl_s": [0.001, 0.002, 0.003], "load.concurrency": list(range(1, 9))}
    points = plan(sweep={"grid": grid})
    engines = [point.engine for point in points]
    changes = sum(a != b for a, b in itertools.pairwise(engines))
    assert changes == 2
    first = [point.values["load.concurrency"] for point in points[:16]]
    assert first != sorted(first)
    assert [p.key for p in points] == [p.key for p in plan(sweep={"grid": grid})]
    assert [p.key for p in points] != [p.key for p in plan(sweep={"grid": grid}, run={"seed": 1})]


PAIRS = [
    {"workload.isl_tokens": 4, "workload.osl_tokens": 8},
    {"workload.isl_tokens": 16, "workload.osl_tokens": 1},
]


def test_cases_go_together_where_a_grid_crosses():
    points = plan(sweep={"repeats": 1, "cases": PAIRS, "grid": {"load.concurrency": [1, 2]}})
    found = {
        (
            p.settings.workload.isl_tokens,
            p.settings.workload.osl_tokens,
            p.settings.load.concurrency,
        )
        for p in points
    }
    assert found == {(4, 8, 1), (4, 8, 2), (16, 1, 1), (16, 1, 2)}


def test_each_workload_has_a_front_of_its_own_and_a_setting_that_a_row_lacks_is_empty():
    def row(joules, **values):
        numbers = {sweep_table.INTERACTIVITY: 10.0, "gpu_j_per_output_token": joules}
        return sweep_table.Row(
            values={key.replace("__", "."): value for key, value in values.items()},
            runs=("r",),
            power_kind="emulated",
            invalid=0,
            numbers={key: sweep_table.estimate([value]) for key, value in numbers.items()},
        )

    found = [
        row(1.0, workload__osl_tokens=8, load__concurrency=1),
        row(2.0, workload__osl_tokens=8, load__concurrency=2),
        row(9.0, workload__osl_tokens=1),
    ]
    sweep_table.mark_fronts(found)
    assert [r.on_front["gpu_j_per_output_token"] for r in found] == [True, False, True]
    lines = sweep_table.to_csv(found).splitlines()
    assert lines[0].startswith("workload.osl_tokens,load.concurrency,runs")
    assert lines[3].startswith("1,,1,0,emulated")


def test_cases_do_without_a_grid_and_may_vary_different_settings():
    cases = [*PAIRS, {"load.concurrency": 3}]
    points = plan(sweep={"repeats": 2, "cases": cases, "grid": {}})
    assert len({point.key for point in points}) == 6
    assert {point.engine for point in points} == {points[0].engine}
    assert sweep_table.settings_of(points)[-1] in {"load.concurrency", "workload.osl_tokens"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cases": [{}]}, "sweep.cases has no values to go through"),
        ({"cases": [{"load.concurrency": 4}]}, "is in sweep.grid and in sweep.cases"),
        ({"cases": [{"workload": {"isl_tokens": 4}}]}, "key 'workload' without a section"),
        ({"cases": [PAIRS[0], PAIRS[0]]}, "twice"),
        ({"grid": {"load.concurrency": [1, 1]}}, "twice"),
        ({"grid": {}}, "no values to go through"),
        ({"grid": {"load.concurrency": []}}, "no values to go through"),
        ({"repeats": 0}, "repeats is 0, below 1"),
        ({"repeat": 1}, "did you mean 'repeats'"),
        ({"plateau_ratio": 0.1}, "needs one setting that rises"),
        ({"grid": {"load.concurency": [1]}}, "did you mean 'concurrency'"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(values, message):
    wrong = copy.deepcopy(TABLE)
    wrong["sweep"].update(values)
    with pytest.raises(ConfigError, match=message):
        sweep_plan.plan(wrong, name="t")


def test_a_configuration_without_a_sweep_says_what_to_add():
    with pytest.raises(ConfigError, match=r"no \[sweep\]"):
        sweep_plan.plan({"load": {"concurrency": 1, "request_count": 1}}, name="t")


def test_another_sweep_in_the_folder_is_not_taken_for_this_one(tmp_path):
    sweep.open_folder(tmp_path, plan())
    assert sweep.open_folder(tmp_path, plan()) == {}
    with pytest.raises(ConfigError, match="other points or settings; name another"):
        sweep.open_folder(tmp_path, plan(workload={"osl_tokens": 9}))


def test_a_torn_last_line_of_what_is_done_is_dropped(tmp_path):
    line = json.dumps({"key": "a", "run": "r", "status": "complete", "seconds": 1.0, "error": None})
    (tmp_path / sweep.DONE).write_text(line + "\n" + line[:20])
    assert [entry.key for entry in sweep.read_done(tmp_path)] == ["a"]


def command(folder: Path, *more: str) -> list[str]:
    config = folder / "ladder.toml"
    config.write_text(TOML)
    return [
        sys.executable,
        "-m",
        "harness",
        "sweep",
        str(config),
        "--out",
        str(folder / "out"),
        *more,
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.mark.engine
def test_a_killed_sweep_goes_on_where_it_was_and_runs_nothing_twice(tmp_path: Path):
    done = tmp_path / "out" / sweep.DONE
    first = subprocess.Popen(command(tmp_path), env=environment(), cwd=tmp_path,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and first.poll() is None:
        if done.exists() and done.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = [entry.key for entry in sweep.read_done(tmp_path / "out")]
    assert 2 <= len(before) < 6, first.stderr.read() if first.stderr else ""

    second = subprocess.run(command(tmp_path), env=environment(), cwd=tmp_path,
                            capture_output=True, text=True, timeout=200, check=False)  # fmt: skip
    assert second.returncode == 0, second.stderr
    entries = sweep.read_done(tmp_path / "out")
    assert [entry.key for entry in entries][: len(before)] == before
    assert len(entries) == len({entry.key for entry in entries}) == 6
    # One engine for what was left, although each of its runs has a folder of its own.
    assert len(list((tmp_path / "out").glob("engine-*.log"))) == 1
    assert not list((tmp_path / "out" / "runs").glob("*/engine.log"))
    table_csv = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert len(table_csv) == 4
    assert table_csv[0].startswith("load.concurrency,runs,invalid_runs,power_kind,")
    assert all(row.split(",")[3] in {"modelled", "measured"} for row in table_csv[1:])
    assert "of 6, about" in second.stderr


def test_dry_run_lists_the_points_and_runs_none(tmp_path: Path):
    done = subprocess.run(command(tmp_path, "--dry-run"), env=environment(), cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert len(done.stdout.splitlines()) == 6
    assert not (tmp_path / "out").exists()


def test_a_ladder_ends_where_more_streams_bring_no_more(monkeypatch, tmp_path):
    grid = {"load.concurrency": [1, 2, 4, 8, 16]}
    given_table = table(
        sweep={"repeats": 1, "order": "as_listed", "plateau_ratio": 0.1, "grid": grid}
    )
    config, points = sweep_plan.plan(given_table, name="t")
    speeds = {1: 100.0, 2: 190.0, 4: 195.0}
    done = {
        p.key: sweep.Done(key=p.key, run=str(p.values["load.concurrency"]), status="complete",
                          seconds=1, error=None)
        for p in points[:3]
    }  # fmt: skip
    monkeypatch.setattr(sweep, "_throughput", lambda _, entry: speeds[int(entry.run)])
    said = [sweep._levelled_off(config, points, done, tmp_path, before=point) for point in points]
    assert said == [False, False, False, True, True]


POINTS = st.lists(
    st.none() | st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), max_size=12
)


@given(POINTS, st.booleans())
def test_a_front_holds_exactly_the_points_nothing_beats(points, higher_y):
    found = front(points, higher_y=higher_y)
    assert len(found) == len(points)
    for point, on_it in zip(points, found, strict=True):
        if point is None:
            assert not on_it
            continue
        better = [
            other for other in points if other is not None and other != point
            and other[0] >= point[0]
            and (other[1] >= point[1] if higher_y else other[1] <= point[1])
        ]  # fmt: skip
        assert on_it == (not better)
    if any(point is not None for point in points):
        assert any(found)


def test_an_interval_over_runs_is_student_s():
    assert sweep_table.estimate([1.0, 2.0, 3.0]).half_width == pytest.approx(
        4.30265 / 3**0.5, rel=1e-4
    )
    assert sweep_table.estimate([5.0]).half_width is None
