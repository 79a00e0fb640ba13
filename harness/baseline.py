"""Keeps named sets of runs, and a history of all, in a folder or any URL that fsspec opens."""

from __future__ import annotations

import datetime as dt
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import fsspec  # type: ignore[import-untyped]
import orjson

from .compare.sets import StoredRun
from .errors import StoreError
from .record import RunRecord

DEFAULT_STORE: Final = "baselines"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """
    A named set of runs.

    Args:
        name: letters, digits, dots, dashes, underscores.
        set_at: when, ISO 8601, UTC.
        note: why, for people.
        records: the runs' records, whole.
    """

    name: str
    set_at: str
    note: str
    records: tuple[RunRecord, ...]


def set_baseline(
    name: str, runs: Sequence[StoredRun], store: str, *, note: str = "", now: dt.datetime
) -> Baseline:
    """
    Store runs under a name, replacing what had it before.

    Each record is written whole, into a file of its own; the file that names
    them comes last, so that a reader never sees half of a baseline.

    Args:
        name: of the baseline.
        runs: their records are stored, their requests are not.
        store: a folder, or a URL, e.g. `s3://bucket/baselines`.
        note: for people.
        now: the time it is set at.

    Raises:
        StoreError: a name that is none, or a store that cannot be written.
    """
    for one in (name, *(run.record.run_id for run in runs)):
        _check(one)
    made = Baseline(
        name=name,
        set_at=now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        note=note,
        records=tuple(run.record for run in runs),
    )
    files = [f"records/{record.run_id}.json" for record in made.records]
    for file, record in zip(files, made.records, strict=True):
        write_file(store, file, record.to_json())
    document = {
        "version": _VERSION,
        "name": name,
        "set_at": made.set_at,
        "note": note,
        "records": files,
    }
    write_file(store, f"{name}.json", orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return made


def get_baseline(name: str, store: str) -> Baseline:
    """
    Read a baseline back.

    Raises:
        StoreError: there is none of that name, or it is damaged.
    """
    _check(name)
    try:
        raw: Any = orjson.loads(read_file(store, f"{name}.json"))
        return Baseline(
            name=raw["name"],
            set_at=raw["set_at"],
            note=raw["note"],
            records=tuple(
                RunRecord.from_json(read_file(store, file), where=posixpath.join(store, file))
                for file in raw["records"]
            ),
        )
    except FileNotFoundError as error:
        known = ", ".join(names(store)) or "none"
        raise StoreError(
            f"there is no baseline {name!r} in {store} (there is: {known})",
            remedy=f"make it: `joulemark baseline set {name} RUN...`",
        ) from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{name}.json in {store} is not a baseline ({error})", remedy="set it again"
        ) from error


def runs_of(name: str, store: str) -> list[StoredRun]:
    """A baseline's runs, for a comparison."""
    return [StoredRun(record=record) for record in get_baseline(name, store).records]


def names(store: str) -> list[str]:
    """The baselines of a store, sorted; none in a store that is not there yet."""
    filesystem, root = opened(store)
    return sorted(
        posixpath.basename(path).removesuffix(".json")
        for path in filesystem.glob(posixpath.join(root, "*.json"))
    )


def opened(store: str) -> tuple[Any, str]:
    """
    The filesystem behind a folder or URL, and the path in it.

    Raises:
        StoreError: no filesystem for that kind of URL is installed.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(store)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"{store} cannot be opened: {error}",
            remedy="install what it needs, e.g. `pip install s3fs` for s3:// or gcsfs for gs://",
        ) from error
    return filesystem, str(root)


def read_file(store: str, file: str) -> bytes:
    """One file's bytes."""
    filesystem, root = opened(store)
    data: bytes = filesystem.cat_file(posixpath.join(root, file))
    return data


def write_file(store: str, file: str, data: bytes) -> None:
    """
    Write one file whole.

    Raises:
        StoreError: it cannot be written.
    """
    filesystem, root = opened(store)
    path = posixpath.join(root, file)
    try:
        filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
        # An object appears under its name when it is complete; a local file does not by itself.
        local = "file" in filesystem.protocol
        part = f"{path}.part" if local else path
        filesystem.pipe_file(part, data)
        if local:
            filesystem.mv(part, path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error}", remedy="name a folder or URL that can be written"
        ) from error


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot name a baseline's file",
            remedy="use letters, digits, dots, dashes and underscores",
        )
