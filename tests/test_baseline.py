"""Baselines: what is stored is what is compared, in a folder or any URL, whole or not at all."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pytest
from verdict_runs import folders, side

from harness.baseline import get_baseline, names, runs_of, set_baseline, write_file
from harness.errors import StoreError

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
ROUND = [0.99, 1.0, 1.01, 1.005, 0.995]


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path: Path) -> str:
    """A local folder, and a URL that fsspec opens."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"memory://{uuid.uuid4().hex}"


def test_what_was_set_is_read_back_whole(store):
    runs = side("base", ROUND).runs
    set_baseline("main", runs, store, note="driver 570", now=NOW)
    back = get_baseline("main", store)
    assert back.set_at == "2026-11-23T12:00:00+00:00"
    assert back.note == "driver 570"
    assert [one.to_json() for one in back.records] == [run.record.to_json() for run in runs]
    assert [run.record.run_id for run in runs_of("main", store)] == [f"base-{i}" for i in range(5)]


def test_setting_again_replaces_and_names_are_listed(store):
    assert names(store) == []
    set_baseline("main", side("base", ROUND).runs, store, now=NOW)
    set_baseline("other", side("base", ROUND).runs, store, now=NOW)
    set_baseline("main", side("new", [1.0]).runs, store, now=NOW)
    assert names(store) == ["main", "other"]
    assert [one.run_id for one in get_baseline("main", store).records] == ["new-0"]


def test_a_baseline_that_is_not_there_is_refused_with_those_that_are(store):
    set_baseline("main", side("base", ROUND).runs, store, now=NOW)
    with pytest.raises(StoreError, match="there is: main"):
        get_baseline("mian", store)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "a b"])
def test_a_name_that_could_leave_the_store_is_refused(store, name):
    with pytest.raises(StoreError, match="cannot name"):
        set_baseline(name, side("base", ROUND).runs, store, now=NOW)
    with pytest.raises(StoreError):
        get_baseline(name, store)


def test_a_damaged_baseline_says_so(store):
    write_file(store, "main.json", b'{"name": "main"}')
    with pytest.raises(StoreError, match="not a baseline"):
        get_baseline("main", store)


def test_a_url_that_nothing_opens_is_refused():
    with pytest.raises(StoreError, match="cannot be opened"):
        names("nonsense://bucket/x")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        set_baseline("main", side("base", ROUND).runs, str(tmp_path / "file"), now=NOW)


def test_the_verbs_set_list_show_and_compare(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", ROUND))
    folders(tmp_path / "runs", side("cand", [1.1 * one for one in ROUND], start=1))
    done = joulemark("baseline", "set", "main", "base-*", "--note", "why")
    assert "5 runs" in done.stdout, done.stderr
    assert "main  5 runs" in joulemark("baseline", "list").stdout
    shown = joulemark("baseline", "show", "main").stdout
    assert "base-4" in shown
    assert "energy per output token" in shown
    done = joulemark("compare", "baseline:main", "vs", "cand-*")
    assert done.returncode == 1, done.stderr
    assert "worse" in done.stdout
    assert joulemark("compare", "baseline:none", "cand-1").returncode == 2


def test_runs_that_are_not_alike_cannot_be_a_baseline(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", [1.0, 1.0]))
    folders(tmp_path / "runs", side("odd", [1.0], config__load__concurrency=9))
    done = joulemark("baseline", "set", "main", "base-0", "odd-0")
    assert done.returncode == 2
    assert "load.concurrency" in done.stderr
