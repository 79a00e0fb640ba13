"""The one data flow of a run: record it, store it, then compute, as often as one likes."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import plugins, report, store
from .acquisition import Acquisition
from .analysis import analyse
from .errors import JoulemarkError
from .files import write_atomically
from .kept_engine import KeptEngine, prepare
from .record import RunRecord
from .run_watcher import RunWatcher

if TYPE_CHECKING:
    from .settings import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a run left behind.

    Args:
        folder: the run folder.
        record: of what was recorded, also if the run was cut short.
        error: what cut it short; None if nothing did.
        interrupted: the user asked for the end.
    """

    folder: Path
    record: RunRecord
    error: JoulemarkError | None
    interrupted: bool


def measure(
    config: RunConfig,
    *,
    watcher: RunWatcher,
    stop: threading.Event,
    kept: KeptEngine | None = None,
) -> Outcome:
    """
    Do one run.

    Raw events are on the disk before any arithmetic, so what an error or a
    Ctrl-C leaves is a marked, partial record; only what fails before the run
    folder exists is raised.

    Args:
        config: what to run.
        watcher: told of the progress.
        stop: set it to end the run early, from any thread or a signal handler.
        kept: an engine that runs already and goes on afterwards; None: the run
            starts and stops its own.

    Raises:
        JoulemarkError: the run could not begin; nothing was recorded.
    """
    watcher.phase("prepare", seconds=None, requests=None)
    selection, engine = (kept.selection, kept.engine) if kept else prepare(config)
    acquired = Acquisition(config, selection, engine, watcher, stop, kept=kept).record()
    watcher.phase("compute", seconds=None, requests=None)
    return Outcome(
        folder=acquired.folder,
        record=finish(acquired.folder),
        error=acquired.error,
        interrupted=acquired.interrupted,
    )


def finish(folder: Path) -> RunRecord:
    """
    Seal a folder's journals and write everything that is computed from them.

    Raises:
        StoreError: it is not a run folder, or cannot be written.
    """
    store.seal(folder)
    return recompute(folder)


def recompute(folder: Path) -> RunRecord:
    """
    Compute the record again from what was recorded, and write it with its exports.

    Raises:
        StoreError: it is not a run folder, or a file in it is damaged.
    """
    record = analyse(store.load(folder))
    write_atomically(folder / store.RECORD, record.to_json())
    write_atomically(folder / store.REPORT, report.markdown(record).encode())
    plugins.load("exporter", "openmetrics")().export(record, folder)
    return record


def with_window(folder: Path, kind: str) -> RunRecord:
    """
    The record as another window gives it, from the same raw events; nothing is written.

    Args:
        folder: of the run.
        kind: as `window.kind` in the configuration, which the record then holds.

    Raises:
        StoreError: it is not a run folder, or a file in it is damaged.
    """
    raw = store.load(folder)
    config = raw.manifest["config"]
    changed = {**config, "window": {**config["window"], "kind": kind}}
    return analyse(dataclasses.replace(raw, manifest={**raw.manifest, "config": changed}))
