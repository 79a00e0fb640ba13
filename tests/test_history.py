"""The history: one line of pandas or DuckDB reads it, and it says when a level changed and why."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from verdict_runs import ENERGY, folders, side

from harness.errors import StoreError
from harness.history import COLUMNS, add, likeness, read, series

RANDOM = random.Random(5)  # noqa: S311 - a test's


def scattered(count: int, level: float) -> list[float]:
    return [level * RANDOM.gauss(1, 0.004) for _ in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Twelve runs at one level, then ten that are 6 % up, with another kernel."""
    where = str(tmp_path / "store")
    add(side("old", scattered(12, 1.0), provenance__machine__kernel="6.1").runs, where)
    later = side("new", scattered(10, 1.06), start=1000, provenance__machine__kernel="6.8")
    add(later.runs, where)
    return where


def test_pandas_reads_it_in_one_line(store):
    table = pd.read_parquet(f"{store}/history")
    assert list(table.columns) == list(COLUMNS)
    assert len(table["run_id"].unique()) == 22
    one = table[(table["run_id"] == "old-0") & (table["metric"] == ENERGY)].iloc[0]
    assert one["unit"] == "J/token"
    assert one["power_kind"] == "measured"
    assert str(one["began"].tz) == "UTC"


def test_duckdb_reads_it_in_one_line(store):
    query = f"select count(distinct run_id) from '{store}/history/*.parquet'"  # noqa: S608
    assert duckdb.sql(query).fetchall() == [(22,)]


def test_adding_twice_changes_nothing(store):
    runs = side("old", scattered(12, 2.0)).runs
    before = read(store)
    assert add(runs, store) == 0
    pd.testing.assert_frame_equal(read(store), before)


def test_it_works_on_a_url():
    where = f"memory://{uuid.uuid4().hex}"
    assert add(side("a", [1.0, 1.1]).runs, where) == 2
    assert series(where, metric=ENERGY)[0].run_ids == ["a-0", "a-1"]


def test_a_change_of_level_is_found_where_it_is_with_what_changed(store):
    (found,) = series(store, metric=ENERGY)
    assert [one.index for one in found.changes] == [12]
    assert found.changes[0].effect.ratio == pytest.approx(1.06, abs=0.01)
    assert [(one.key, one.base, one.cand) for one in found.suspects[0]] == [
        ("machine.kernel", ("6.1",), ("6.8",))
    ]


def test_unlike_runs_are_separate_series(tmp_path: Path):
    where = str(tmp_path / "store")
    runs = [*side("a", [1.0, 1.1]).runs, *side("b", [1.0], config__load__concurrency=9).runs]
    add([*runs, *side("e", [1.0], kind="emulated").runs], where)
    titles = {one.run_ids[0]: one.title for one in series(where, metric=ENERGY)}
    assert titles["a-0"] == "golden (load.concurrency 4, power_kind measured)"
    assert titles["b-0"] == "golden (load.concurrency 9, power_kind measured)"
    assert titles["e-0"] == "golden (load.concurrency 4, power_kind emulated)"
    found = series(where, metric=ENERGY)
    assert sorted(len(one.values) for one in found) == [1, 1, 2]
    assert {one.power_kind for one in found} == {"measured", "emulated"}
    assert likeness(runs[0].record) == likeness(runs[1].record) != likeness(runs[2].record)


def test_a_metric_or_preset_without_runs_is_refused(store):
    with pytest.raises(StoreError, match="no complete run"):
        series(store, metric="ttft_from_due_s.p50")
    with pytest.raises(StoreError, match="of 'other'") as caught:
        series(store, metric=ENERGY, name="other")
    assert "golden" in caught.value.remedy


def test_when_a_run_began_is_told_to_the_microsecond(tmp_path: Path):
    """The wall clock gives nanoseconds, which Python's dates cannot hold."""
    where = str(tmp_path / "store")
    add(side("a", [1.0], provenance__anchor__t_wall_ns=1_764_000_000_123_456_789).runs, where)
    (found,) = series(where, metric=ENERGY)
    assert found.began[0].microsecond == 123_456


def test_an_empty_history_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="no history"):
        read(str(tmp_path / "nothing"))


def test_the_verbs_add_and_show_with_a_picture(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("old", scattered(12, 1.0)))
    folders(tmp_path / "runs", side("new", scattered(10, 1.06), start=1000))
    assert "22 of 22" in joulemark("history", "add", "runs").stdout
    done = joulemark("history", "show", ENERGY, "--html", "h.html")
    assert "level changed by +" in done.stdout, done.stderr
    page = (tmp_path / "h.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 1
    assert "level 2" in page
    found = json.loads(joulemark("history", "show", ENERGY, "--json").stdout)
    assert found[0]["changes"][0]["index"] == 12
    assert joulemark("history", "show", "nonsense").returncode == 2


def test_the_last_runs_are_printed_and_every_change(joulemark, store):
    done = joulemark("history", "show", ENERGY, "--store", store, "--last", "3")
    assert done.returncode == 0, done.stderr
    assert "19 earlier runs, and all changes" in done.stdout
    assert "level changed by" in done.stdout
    assert "new-9" in done.stdout
    assert "new-6" not in done.stdout
    everything = joulemark("history", "show", ENERGY, "--store", store, "--last", "0")
    assert "old-0" in everything.stdout
