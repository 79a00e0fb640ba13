"""Finds the runs that a user means by a set: folders, ids, folders of runs, patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import store
from harness.errors import ConfigError, StoreError
from harness.record import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """
    One run to be compared.

    Args:
        record: what it found.
        folder: its run folder, with the requests; None where only the record is at hand.
    """

    record: RunRecord
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSet:
    """
    Runs of one thing, in order of time.

    Args:
        label: what to call it, e.g. `base`.
        runs: one or more, no two with the same id.
    """

    label: str
    runs: tuple[StoredRun, ...]

    @property
    def records(self) -> list[RunRecord]:
        """Their records."""
        return [run.record for run in self.runs]

    @property
    def ids(self) -> list[str]:
        """Their run ids."""
        return [run.record.run_id for run in self.runs]


def run_set(label: str, runs: Sequence[StoredRun]) -> RunSet:
    """
    A set, ordered by when its runs began.

    Raises:
        ConfigError: it is empty, or holds a run twice.
    """
    if not runs:
        raise ConfigError(f"{label} holds no run", remedy="name a run folder or a folder of them")
    ids = [run.record.run_id for run in runs]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ConfigError(
            f"{label} holds {twice[0]} twice, and a copy is not a repeat",
            remedy="name each run once",
        )
    return RunSet(label=label, runs=tuple(sorted(runs, key=lambda run: began_ns(run.record))))


def began_ns(record: RunRecord) -> int:
    """Wall-clock nanoseconds of a run's beginning; 0 where the record does not say."""
    return int(record.provenance.get("anchor", {}).get("t_wall_ns", 0))


def find_runs(text: str, *, artifact_dir: Path) -> list[StoredRun]:
    """
    The runs that *text* names.

    Args:
        text: a run folder, a run's id below *artifact_dir*, `latest`, a folder that
            holds run folders, a record written with `--json`, or a pattern of any of them.
        artifact_dir: where ids are looked for.

    Raises:
        StoreError: there is none, or a run has no record.
    """
    paths = _globbed(text, artifact_dir) if any(mark in text for mark in "*?[") else [Path(text)]
    if not paths:
        raise StoreError(
            f"no run fits {text!r}, neither here nor below {artifact_dir}",
            remedy="`joulemark list runs` shows those there are",
        )
    return [run for path in paths for run in _at(path, artifact_dir)]


def _globbed(text: str, artifact_dir: Path) -> list[Path]:
    path = Path(text)
    if path.is_absolute():
        anchor = Path(path.anchor)
        return sorted(anchor.glob(str(path.relative_to(anchor))))
    return sorted(Path().glob(text)) or sorted(artifact_dir.glob(text))


def _at(path: Path, artifact_dir: Path) -> list[StoredRun]:
    if path.is_file():
        return [
            StoredRun(record=RunRecord.from_json(path.read_bytes(), where=str(path)), folder=None)
        ]
    if path.is_dir() and not (path / store.MANIFEST).is_file():
        # A sweep keeps its runs one folder below its table.
        folders = store.run_folders(path) or store.run_folders(path / "runs")
        if folders:
            return [_load(folder) for folder in folders]
    if path.is_dir() and (path / store.RECORD).is_file():
        return [_load(path)]
    return [_load(store.find(str(path), artifact_dir=artifact_dir))]


def _load(folder: Path) -> StoredRun:
    return StoredRun(record=store.load_record(folder)[1], folder=folder)
