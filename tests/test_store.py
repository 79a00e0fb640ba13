"""What is on the disk is read back the same: running, sealed, or cut off at any byte."""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import store
from harness.errors import StoreError
from harness.journal import JournalWriter, read_journal
from harness.run_writer import RunWriter
from harness.timeline import EVENT_DTYPE, POWER_DTYPE, RequestTrace

EVENT = struct.Struct("<qiiiB3x")
POWER = struct.Struct("<qqdHH4x")


def trace(index: int, **changes) -> RequestTrace:
    values = {
        "request": index,
        "phase": "measure",
        "t_due_ns": 10**15 + index,
        "t_sent_ns": 10**15 + index + 1,
        "t_first_ns": None,
        "t_last_ns": None,
        "t_end_ns": 10**15 + index + 9,
        "isl_tokens": 5,
        "osl_tokens": None,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "stream_tokens": 3,
        "chunks": 3,
        "max_osl_tokens": 8,
        "isl_asked_tokens": 4,
        "finish_reason": None,
        "status": 200,
        "error_kind": "cut",
        "error": "the server closed the connection",
        "reused_connection": False,
    }
    return RequestTrace(**(values | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    with RunWriter(path, {"run_id": "run", "config": {}}) as writer:
        writer.mark("measure_start", 10**15)
        for index in range(5):
            writer.events.append(EVENT.pack(10**15 + index, index, index, 4, 2))
            writer.add_request(trace(index))
        power = JournalWriter(path / store.POWER, POWER_DTYPE, {"channels": [{"name": "x"}]})
        power.append(POWER.pack(10**15, 10**15 + 5, 1.5, 0, 0))
        power.append(POWER.pack(10**15 + 6, 10**15 + 9, float("nan"), 0, 3))
        power.close()
    return path


def same(one: store.RawRun, other: store.RawRun) -> bool:
    pd.testing.assert_frame_equal(one.requests, other.requests)
    # Bytes, because NaN, the value of a failed reading, equals nothing.
    assert one.events.tobytes() == other.events.tobytes()
    assert one.power.tobytes() == other.power.tobytes()
    return one.power_header == other.power_header and one.marks == other.marks


def test_sealing_changes_the_form_and_nothing_else(folder: Path):
    before = store.load(folder)
    store.seal(folder)
    assert {path.name for path in folder.glob("*.parquet")} == {
        "requests.parquet",
        "tokens.parquet",
        "power.parquet",
    }
    assert not list(folder.glob("*.journal"))
    assert same(before, store.load(folder))
    store.seal(folder)
    assert same(before, store.load(folder))


def test_a_kill_between_the_table_and_the_journals_end_loses_nothing(folder: Path):
    before = store.load(folder)
    journal = (folder / store.EVENTS).read_bytes()
    store.seal(folder)
    (folder / store.EVENTS).write_bytes(journal)
    assert same(before, store.load(folder))


def test_a_missing_count_stays_missing_and_a_stamp_keeps_its_last_nanosecond(folder: Path):
    store.seal(folder)
    requests = store.load(folder).requests
    assert requests["osl_tokens"].isna().all()
    assert requests["t_sent_ns"].tolist() == [10**15 + index + 1 for index in range(5)]


@given(st.data())
def test_a_run_cut_off_at_any_byte_keeps_every_whole_record(tmp_path_factory, data):
    base = tmp_path_factory.mktemp("cut")
    whole = base / "whole"
    with RunWriter(whole, {"run_id": "run", "config": {}}) as writer:
        for index in range(4):
            writer.events.append(EVENT.pack(index, index, index, 4, 2))
            writer.add_request(trace(index))
    name = data.draw(st.sampled_from([store.EVENTS, store.REQUESTS]))
    size = (whole / name).stat().st_size
    header = 8 + 2 if name == store.EVENTS else 0
    kept = data.draw(st.integers(header, size))
    with (whole / name).open("r+b") as file:
        file.truncate(kept)
    raw = store.load(whole)
    if name == store.EVENTS:
        assert len(raw.events) == (kept - header) // EVENT_DTYPE.itemsize
    else:
        lines = (whole / name).read_bytes().count(b"\n")
        assert len(raw.requests) == lines
    shutil.rmtree(base)


def test_a_journal_is_never_overwritten(tmp_path: Path):
    JournalWriter(tmp_path / "j", EVENT_DTYPE, {}).close()
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path / "j", EVENT_DTYPE, {})


@pytest.mark.parametrize("data", [b"", b"JMJ1", b"XXXX\x02\x00\x00\x00{}", b"JMJ1\x02\0\0\0{x"])
def test_what_is_not_a_journal_is_refused(tmp_path: Path, data):
    path = tmp_path / "j"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=str(path)):
        read_journal(path, EVENT_DTYPE)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match=r"has no manifest\.json"):
        store.load(tmp_path)


def test_a_run_is_found_by_path_id_and_as_the_latest(folder: Path):
    parent = folder.parent
    assert store.find(str(folder)) == folder
    assert store.find("run", artifact_dir=parent) == folder
    assert store.find("latest", artifact_dir=parent) == folder
    with pytest.raises(StoreError, match="no run 'other'"):
        store.find("other", artifact_dir=parent)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the run folder"):
        RunWriter(tmp_path / "file" / "run", {})


def test_rows_of_client_processes_count_once_even_if_joining_was_cut_short(folder: Path):
    whole = store.load(folder).events
    with closing_journal(folder / "events.0") as shard:
        for index in (2, 3, 4):
            shard.append(EVENT.pack(10**15 + index, index, index, 4, 2))
    # The journal holds all five already, as if joining had been all but done.
    assert store.load(folder).events.tobytes() == whole.tobytes()
    store.seal(folder)
    assert not list(folder.glob("events.*"))
    assert store.load(folder).events.tobytes() == whole.tobytes()


def closing_journal(path: Path):
    """A journal that closes itself."""
    return contextlib.closing(JournalWriter(path, EVENT_DTYPE, {}))
