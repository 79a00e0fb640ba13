"""The run folder: what lies in it, how it is found, read in any state, and sealed into Parquet."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import StoreError
from .journal import read_journal
from .record import RunRecord
from .timeline import EVENT_DTYPE, POWER_DTYPE, RequestTrace

MANIFEST: Final = "manifest.json"
MARKS: Final = "marks.jsonl"
REQUESTS: Final = "requests.jsonl"
EVENTS: Final = "tokens.journal"
POWER: Final = "power.journal"
ENGINE_LOG: Final = "engine.log"
LOG: Final = "log.txt"
RECORD: Final = "run.json"
REPORT: Final = "report.md"
_HEADER_KEY: Final = b"joulemark"
_REQUEST_COLUMNS: Final = [item.name for item in dataclasses.fields(RequestTrace)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRun:
    """
    Everything that a run recorded, before any arithmetic.

    Args:
        folder: where it lies.
        manifest: run id, configuration and what was known at the start.
        marks: phases, counter readings, findings and audits, in order of time.
        requests: one row a finished request; columns of RequestTrace.
        events: EVENT_DTYPE, in order of time within a request.
        power_header: the power journal's header; empty without power.
        power: POWER_DTYPE.
        torn_bytes: bytes of half-written records that were dropped.
    """

    folder: Path
    manifest: dict[str, Any]
    marks: list[dict[str, Any]]
    requests: pd.DataFrame
    events: npt.NDArray[Any]
    power_header: dict[str, Any]
    power: npt.NDArray[Any]
    torn_bytes: int

    @property
    def complete(self) -> bool:
        """Whether the run came to its planned end."""
        return any(mark["mark"] == "complete" for mark in self.marks)


def seal(folder: Path) -> None:
    """
    Turn the journals of a finished run into Parquet.

    Each journal is removed only once its table is safely on the disk, so that a
    kill in between loses nothing. Sealing twice changes nothing.

    Raises:
        StoreError: the folder is not a run, or cannot be written.
    """
    raw = load(folder)
    tables = {
        REQUESTS: pa.Table.from_pandas(raw.requests, preserve_index=False),
        EVENTS: _to_table(raw.events, {}),
        POWER: _to_table(raw.power, raw.power_header),
    }
    for source, table in tables.items():
        journal = folder / source
        if journal.exists():
            target = _sealed(journal)
            part = target.with_suffix(".part")
            try:
                pq.write_table(table, part, compression="zstd")
                _sync(part)
                part.replace(target)
            except OSError as error:
                raise StoreError(
                    f"cannot write {target}: {error.strerror}",
                    remedy="free some space, then run `joulemark recompute` on the folder",
                ) from error
            journal.unlink()
    for shard in folder.glob("events.*"):
        shard.unlink()


def load(folder: Path) -> RawRun:
    """
    Read a run folder, sealed or not, complete or cut short at any moment.

    Raises:
        StoreError: it is not a run folder, or a file in it is damaged.
    """
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} is not a run folder: it has no {MANIFEST}",
            remedy="name a folder that `joulemark run` made; `joulemark list runs` shows them",
        ) from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise StoreError(
            f"cannot read {folder / MANIFEST}: {error}", remedy="restore it from a copy"
        ) from error
    marks, torn_marks = _read_lines(folder / MARKS)
    requests, torn_requests = _load_requests(folder / REQUESTS)
    _, events, torn_events = _load_records(folder / EVENTS, EVENT_DTYPE)
    events, torn_shards = _with_shards(folder, events)
    power_header, power, torn_power = _load_records(folder / POWER, POWER_DTYPE)
    return RawRun(
        folder=folder,
        manifest=manifest,
        marks=marks,
        requests=requests,
        events=events,
        power_header=power_header,
        power=power,
        torn_bytes=torn_marks + torn_requests + torn_events + torn_shards + torn_power,
    )


def load_record(folder: Path) -> tuple[bytes, RunRecord]:
    """
    The record of a run: its bytes, and what they say.

    Raises:
        StoreError: there is none yet, or it is damaged.
    """
    path = folder / RECORD
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{folder} has no {RECORD}: the run was cut short",
            remedy=f"run `joulemark recompute {folder}`",
        ) from error
    return data, RunRecord.from_json(data, where=str(path))


def find(run: str, *, artifact_dir: Path = Path("runs")) -> Path:
    """
    The folder that a user means by *run*.

    Args:
        run: a path, a run id below *artifact_dir*, or `latest`.
        artifact_dir: where ids are looked for.

    Raises:
        StoreError: there is none.
    """
    if run == "latest":
        folders = run_folders(artifact_dir)
        if folders:
            return folders[-1]
        raise StoreError(
            f"there is no run below {artifact_dir}", remedy="make one: `joulemark run quickstart`"
        )
    for folder in (Path(run), artifact_dir / run):
        if (folder / MANIFEST).is_file():
            return folder
    raise StoreError(
        f"there is no run {run!r}, neither as a folder nor below {artifact_dir}",
        remedy="`joulemark list runs` shows those there are",
    )


def run_folders(artifact_dir: Path) -> list[Path]:
    """The run folders below *artifact_dir*, oldest first."""
    manifests = artifact_dir.glob(f"*/{MANIFEST}") if artifact_dir.is_dir() else []
    return [path.parent for path in sorted(manifests, key=lambda path: path.stat().st_mtime_ns)]


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Whole lines, and how many bytes of a torn one were dropped at the end."""
    if not path.exists():
        return [], 0
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    try:
        rows = [orjson.loads(line) for line in whole.split(b"\n")] if newline else []
    except orjson.JSONDecodeError as error:
        raise StoreError(
            f"{path} is damaged in the middle ({error})", remedy="restore it from a copy"
        ) from error
    return rows, len(torn)


def _sealed(journal: Path) -> Path:
    return journal.with_suffix(".parquet")


def _load_requests(journal: Path) -> tuple[pd.DataFrame, int]:
    if _sealed(journal).exists():
        frame = _read_table(_sealed(journal)).to_pandas()
        return _request_types(frame), 0
    rows, torn = _read_lines(journal)
    return _request_types(pd.DataFrame(rows, columns=_REQUEST_COLUMNS)), torn


def _request_types(frame: pd.DataFrame) -> pd.DataFrame:
    """
    The same column types from JSON lines and from Parquet.

    Nullable integers, because a missing count must stay missing and a
    nanosecond stamp does not survive a float.
    """
    words = {"phase", "finish_reason", "error_kind", "error"}
    types = {name: "string" if name in words else "Int64" for name in _REQUEST_COLUMNS}
    types["reused_connection"] = "boolean"
    return frame.astype(types).sort_values("request", kind="stable", ignore_index=True)


def _load_records(
    journal: Path, dtype: np.dtype[Any]
) -> tuple[dict[str, Any], npt.NDArray[Any], int]:
    if _sealed(journal).exists():
        table = _read_table(_sealed(journal))
        records = np.zeros(table.num_rows, dtype=dtype)
        for name in table.column_names:
            records[name] = table[name].to_numpy()
        metadata = table.schema.metadata or {}
        return orjson.loads(metadata.get(_HEADER_KEY, b"{}")), records, 0
    if not journal.exists():
        return {}, np.zeros(0, dtype=dtype), 0
    return read_journal(journal, dtype)


def _with_shards(folder: Path, events: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """
    Add what several client processes wrote, if the harness was killed before it joined them.

    It may have been killed half-way through joining, so of a request that a
    shard holds, the shard's rows count and the journal's do not.
    """
    parts, torn_bytes = [], 0
    for shard in sorted(folder.glob("events.*")):
        _, records, torn = read_journal(shard, EVENT_DTYPE)
        parts.append(records)
        torn_bytes += torn
    if not parts:
        return events, 0
    theirs = np.concatenate(parts)
    joined = np.concatenate([events[~np.isin(events["request"], theirs["request"])], theirs])
    return joined[np.argsort(joined["t_ns"], kind="stable")], torn_bytes


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {error}", remedy="restore it from a copy") from error


def _to_table(records: npt.NDArray[Any], header: dict[str, Any]) -> pa.Table:
    names = [name for name in records.dtype.names or () if name != "pad"]
    table = pa.table({name: np.ascontiguousarray(records[name]) for name in names})
    return table.replace_schema_metadata({_HEADER_KEY: orjson.dumps(header)})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
