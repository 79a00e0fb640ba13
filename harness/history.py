"""A history of runs: one table row a run and metric, and when a metric's level changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pandas as pd

from .baseline import opened, read_file, write_file
from .compare.likeness import Suspect, like_values, suspects
from .compare.sets import StoredRun, began_ns, run_set
from .compare.thresholds import default_threshold
from .errors import StoreError
from .record import RunRecord
from .stats.change import Change, changes
from .stats.effects import ALPHA

FOLDER: Final = "history"
COLUMNS: Final = (
    "began", "run_id", "name", "like", "status", "power_kind", "engine", "engine_version",
    "metric", "value", "low", "high", "unit", "n",
)  # fmt: skip
"""Columns of the history's Parquet files; `like` is the same for runs that may be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """
    One metric of like runs over time.

    Args:
        name: the preset or configuration.
        like: see COLUMNS.
        metric: its key.
        unit: of its values.
        power_kind: of the runs.
        began: when each began, in order.
        run_ids: of each.
        values: of each.
        changes: where the level changed.
        suspects: for each change what changed with it.
        apart: in what its runs differ from those of other series of that name.
    """

    name: str
    like: str
    metric: str
    unit: str
    power_kind: str
    began: list[dt.datetime]
    run_ids: list[str]
    values: list[float]
    changes: list[Change]
    suspects: list[list[Suspect]]
    apart: dict[str, str]

    @property
    def title(self) -> str:
        """Its name, with what tells it apart where there are others of that name."""
        if not self.apart:
            return self.name
        return f"{self.name} ({', '.join(f'{k} {v}' for k, v in self.apart.items())})"


def add(runs: Sequence[StoredRun], store: str) -> int:
    """
    Put runs into the history; one that is there already is left as it is.

    One Parquet file a run, so that writers never wait for one another, and the
    whole record beside it.

    Args:
        runs: what to add.
        store: a folder or URL.

    Returns:
        How many were new.
    """
    new = 0
    known = set(_files(store, "parquet"))
    for run in runs:
        file = f"{run.record.run_id}.parquet"
        if file in known:
            continue
        buffer = io.BytesIO()
        frame([run.record]).to_parquet(buffer, index=False)
        write_file(store, f"records/{run.record.run_id}.json", run.record.to_json())
        # Last, because it is by this file that a run is known to be there.
        write_file(store, f"{FOLDER}/{file}", buffer.getvalue())
        new += 1
    return new


def frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """The table of records: a row a metric, columns as in COLUMNS."""
    rows = [
        {
            "began": pd.Timestamp(began_ns(record), unit="ns", tz="UTC"),
            "run_id": record.run_id,
            "name": str(record.config.get("name", "")),
            "like": likeness(record),
            "status": _status(record),
            "power_kind": record.power_kind or "none",
            "engine": str(record.provenance.get("engine", {}).get("engine")),
            "engine_version": str(record.provenance.get("engine", {}).get("version")),
            "metric": key,
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "unit": value.unit,
            "n": value.n,
        }
        for record in records
        for key, value in record.metrics.items()
    ]
    made = pd.DataFrame(rows, columns=list(COLUMNS))
    return made.astype({"value": "float64", "low": "float64", "high": "float64", "n": "int64"})


def read(store: str) -> pd.DataFrame:
    """
    The whole history, in order of time.

    Raises:
        StoreError: it is empty.
    """
    files = _files(store, "parquet")
    if not files:
        raise StoreError(
            f"{store} holds no history", remedy="put runs into it: `joulemark history add RUN...`"
        )
    parts = [pd.read_parquet(io.BytesIO(read_file(store, f"{FOLDER}/{file}"))) for file in files]
    whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return whole.sort_values(["began", "run_id", "metric"], ignore_index=True)


def likeness(record: RunRecord) -> str:
    """A short name for everything that must agree for two runs to be comparable."""
    text = orjson.dumps(like_values(record), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:12]


def series(
    store: str,
    *,
    metric: str,
    name: str | None = None,
    alpha: float = ALPHA,
    threshold_ratio: float | None = None,
) -> list[Series]:
    """
    A metric over time, apart for each kind of runs that may be compared.

    Runs that were cut short or are marked invalid are left out.

    Args:
        store: a folder or URL.
        metric: its key.
        name: of the preset; None: all.
        alpha: about the share of level series in which a change is found.
        threshold_ratio: changes below are left out; None: the metric's own default.

    Raises:
        StoreError: nothing there fits.
    """
    whole = read(store)
    chosen = whole[(whole["metric"] == metric) & (whole["status"] == "complete")]
    if name is not None:
        chosen = chosen[chosen["name"] == name]
    if chosen.empty:
        known = ", ".join(sorted(set(whole["name"])))
        raise StoreError(
            f"the history in {store} has no complete run with {metric}"
            + (f" of {name!r}" if name else ""),
            remedy=f"it has runs of: {known}",
        )
    limit = default_threshold(metric) if threshold_ratio is None else threshold_ratio
    found = []
    for (group, like, kind), part in chosen.groupby(["name", "like", "power_kind"], sort=True):
        values = [float(value) for value in part["value"]]
        ids = [str(one) for one in part["run_id"]]
        positive = all(value > 0 for value in values)
        points = changes(values, alpha=alpha, threshold_ratio=limit) if positive else []
        found.append(
            Series(
                name=str(group),
                like=str(like),
                metric=metric,
                unit=str(part["unit"].iloc[0]),
                power_kind=str(kind),
                began=[one.floor("us").to_pydatetime() for one in part["began"]],
                run_ids=ids,
                values=values,
                changes=points,
                suspects=_suspects(store, ids, points),
                apart={},
            )
        )
    return _told_apart(store, found)


def _told_apart(store: str, found: Sequence[Series]) -> list[Series]:
    """The same series, each with what its runs do not share with others of its name."""
    told = []
    for name in dict.fromkeys(one.name for one in found):
        own = [one for one in found if one.name == name]
        values = [like_values(_stored(store, one.run_ids[0]).record) for one in own]
        keys = sorted({key for one in values for key in one})
        different = [key for key in keys if len({one.get(key) for one in values}) > 1]
        told += [
            dataclasses.replace(
                one, apart={key: described.get(key, "not recorded") for key in different}
            )
            for one, described in zip(own, values, strict=True)
        ]
    return told


def _suspects(store: str, ids: Sequence[str], points: Sequence[Change]) -> list[list[Suspect]]:
    ends = [0, *(one.index for one in points), len(ids)]
    found = []
    for start, at, end in zip(ends, ends[1:], ends[2:], strict=False):
        sides = [
            run_set(label, [_stored(store, one) for one in ids[first:last]])
            for label, first, last in (("before", start, at), ("after", at, end))
        ]
        found.append(suspects(sides[0], sides[1]))
    return found


def _stored(store: str, run_id: str) -> StoredRun:
    file = f"records/{run_id}.json"
    return StoredRun(record=RunRecord.from_json(read_file(store, file), where=file))


def _status(record: RunRecord) -> str:
    """`complete`, `incomplete`, or `invalid` where a finding says not to use the numbers."""
    if record.status == "complete" and any(one.severity == "invalid" for one in record.findings):
        return "invalid"
    return record.status


def _files(store: str, suffix: str) -> list[str]:
    filesystem, root = opened(store)
    paths: Any = filesystem.glob(posixpath.join(root, FOLDER, f"*.{suffix}"))
    return sorted(posixpath.basename(path) for path in paths)
