"""Runs a sweep point by point: resumable after any end, engines restarted only when needed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from harness import pipeline, store
from harness.errors import ConfigError, EngineError, JoulemarkError, StoreError
from harness.files import write_atomically
from harness.kept_engine import KeptEngine, keep
from harness.run_watcher import RunWatcher

from .plan import Point, SweepConfig, fingerprint

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

PLAN: Final = "sweep.json"
DONE: Final = "done.jsonl"
RUNS: Final = "runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """
    One line of `done.jsonl`: a point that was run.

    Args:
        key: of the point.
        run: name of the run folder; empty if there is none.
        status: `complete`, or `failed`, which is run again the next time.
        seconds: that it took.
        error: what was wrong; None if nothing.
    """

    key: str
    run: str
    status: str
    seconds: float
    error: str | None


class SweepWatcher(RunWatcher, Protocol):
    """Whoever wants to see how a sweep goes."""

    def point(self, point: Point, *, place: int, of: int, seconds_left: float | None) -> None:
        """A run begins; how long the rest may take, if anything is known."""
        ...


def open_folder(folder: Path, points: Sequence[Point]) -> dict[str, Done]:
    """
    Make the sweep's folder, or take up the one that is there.

    Returns:
        The points that are done already, by their key.

    Raises:
        ConfigError: the folder holds another sweep.
        StoreError: it cannot be made or read.
    """
    mark = fingerprint(list(points))
    path = folder / PLAN
    try:
        (folder / RUNS).mkdir(parents=True, exist_ok=True)
        if not path.exists():
            described = [{"key": point.key, "values": point.values} for point in points]
            plan = {"fingerprint": mark, "points": described}
            write_atomically(path, orjson.dumps(plan, option=orjson.OPT_INDENT_2))
        elif orjson.loads(path.read_bytes())["fingerprint"] != mark:
            raise ConfigError(
                f"{folder} holds a sweep with other points or settings",
                remedy="name another folder with --out, or undo the change",
            )
    except (OSError, orjson.JSONDecodeError, KeyError) as error:
        raise StoreError(
            f"cannot use {folder} for the sweep: {error}", remedy="name another with --out"
        ) from error
    return {done.key: done for done in read_done(folder) if done.status == "complete"}


def read_done(folder: Path) -> list[Done]:
    """Every line of `done.jsonl`; a last line that a kill tore is dropped."""
    path = folder / DONE
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [Done(**orjson.loads(line)) for line in whole.split(b"\n") if line]


def run(
    sweep: SweepConfig,
    points: Sequence[Point],
    folder: Path,
    *,
    watcher: SweepWatcher,
    stop: threading.Event,
) -> list[Done]:
    """
    Run what is not done yet.

    A point that fails is noted and the next one is run, with the engine started
    anew; it is run again when the sweep is.

    Args:
        sweep: repeats, cool-down, plateau.
        points: in the order to be run.
        folder: of the sweep.
        watcher: told of the progress.
        stop: set it to end after the run in progress was cut short.

    Returns:
        What is done, this time and before.

    Raises:
        JoulemarkError: the folder is of another sweep.
    """
    done = open_folder(folder, points)
    failed: dict[str, Done] = {}
    waiting = [point for point in points if point.key not in done]
    with contextlib.ExitStack() as engine_of:
        kept: tuple[str, KeptEngine] | None = None
        for place, point in enumerate(waiting):
            if stop.is_set() or _levelled_off(sweep, points, done, folder, before=point):
                break
            left = _seconds_left(waiting[place:], [*done.values()], sweep)
            watcher.point(point, place=len(points) - len(waiting) + place + 1, of=len(points),
                          seconds_left=left)  # fmt: skip
            if place and sweep.cool_down_s and stop.wait(sweep.cool_down_s):
                break
            began = time.monotonic()
            try:
                if kept is None or kept[0] != point.engine:
                    engine_of.close()
                    kept = None
                    log = folder / f"engine-{point.engine}.log"
                    started = keep(point.settings, log=log, tick=_tick(watcher, stop))
                    kept = (point.engine, engine_of.enter_context(started))
                entry = _one(point, folder, kept[1], watcher, stop)
            except JoulemarkError as error:
                entry = _failed(point, "", began, error)
            except KeyboardInterrupt:
                break
            if stop.is_set():
                break
            _append(folder / DONE, entry)
            if entry.status == "complete":
                done[point.key] = entry
            else:
                failed[point.key] = entry
                engine_of.close()
                kept = None
    return [*done.values(), *failed.values()]


def _tick(watcher: SweepWatcher, stop: threading.Event) -> Any:  # noqa: ANN401 - a function
    def tick() -> None:
        watcher.tick()
        if stop.is_set():
            raise KeyboardInterrupt

    return tick


def _one(
    point: Point,
    folder: Path,
    kept: KeptEngine,
    watcher: SweepWatcher,
    stop: threading.Event,
) -> Done:
    began = time.monotonic()
    settings = dataclasses.replace(point.settings, artifact_dir=folder / RUNS)
    outcome = pipeline.measure(settings, watcher=watcher, stop=stop, kept=kept)
    if outcome.error is not None:
        return _failed(point, outcome.folder.name, began, outcome.error)
    return Done(
        key=point.key,
        run=outcome.folder.name,
        status="complete" if not outcome.interrupted else "failed",
        seconds=time.monotonic() - began,
        error=None,
    )


def _failed(point: Point, run_name: str, began: float, error: JoulemarkError) -> Done:
    seconds = time.monotonic() - began
    return Done(key=point.key, run=run_name, status="failed", seconds=seconds, error=str(error))


def _append(path: Path, entry: Done) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        line = orjson.dumps(dataclasses.asdict(entry), option=orjson.OPT_APPEND_NEWLINE)
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seconds_left(
    waiting: Sequence[Point], done: Sequence[Done], sweep: SweepConfig
) -> float | None:
    """From what points took so far, else from their planned durations; None if neither says."""
    took = [entry.seconds for entry in done]
    planned = [point.settings.load.duration_s for point in waiting]
    pauses = sweep.cool_down_s * max(len(waiting) - 1, 0)
    if took:
        return len(waiting) * sum(took) / len(took) + pauses
    known = [seconds for seconds in planned if seconds is not None]
    if len(known) < len(waiting):
        return None
    return sum(known) + pauses + sum(point.settings.power.idle_s for point in waiting)


def _levelled_off(
    sweep: SweepConfig,
    points: Sequence[Point],
    done: dict[str, Done],
    folder: Path,
    *,
    before: Point,
) -> bool:
    """Whether the last step before a point no longer raised the throughput by the wanted share."""
    if sweep.plateau_ratio is None:
        return False
    steps: dict[str, list[float]] = {}
    for point in points:
        if point.values == before.values:
            break
        if point.key in done:
            value = _throughput(folder, done[point.key])
            steps.setdefault(str(point.values), []).extend([] if value is None else [value])
    means = [sum(values) / len(values) for values in steps.values() if values]
    return len(means) > 1 and means[-1] < (1 + sweep.plateau_ratio) * means[-2]


def _throughput(folder: Path, done: Done) -> float | None:
    try:
        _, record = store.load_record(folder / RUNS / done.run)
    except (StoreError, EngineError):
        return None
    found = record.metrics.get("output_throughput_tok_per_s")
    return None if found is None else found.value
