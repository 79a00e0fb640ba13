"""Does the runs of a regression: two configurations, or two commands, each measured in full."""

from __future__ import annotations

import copy
import dataclasses
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import config, measure, pipeline
from harness.compare.sets import StoredRun
from harness.errors import ConfigError, EngineError
from harness.run_watcher import RunWatcher
from harness.run_writer import new_run_id

from .loop import Side


def of_configs(
    tables: Mapping[Side, dict[str, Any]],
    *,
    name: str,
    watcher: RunWatcher,
    stop: threading.Event,
) -> Callable[[Side], StoredRun]:
    """
    Run each side as its configuration says.

    The seeds count up alike on both sides, so that the two runs of a pair get
    the same requests, and no verdict hangs on one draw of them.

    Args:
        tables: for each side, sections as in a TOML file.
        name: goes into the runs' ids.
        watcher: told of the progress.
        stop: set it to end the run early.

    Raises:
        ConfigError: by the function returned, or here if a table is not a configuration.
    """
    settings = {
        side: config.parse(copy.deepcopy(table), name=name) for side, table in tables.items()
    }
    done = dict.fromkeys(tables, 0)

    def run(side: Side) -> StoredRun:
        chosen = dataclasses.replace(
            settings[side],
            name=f"{settings[side].name}-{side}",
            seed=settings[side].seed + done[side],
        )
        done[side] += 1
        outcome = pipeline.measure(chosen, watcher=watcher, stop=stop)
        if outcome.error is not None:
            raise outcome.error
        return StoredRun(record=outcome.record, folder=outcome.folder)

    return run


def of_commands(
    commands: Mapping[Side, str],
    *,
    artifact_dir: Path,
    power: Sequence[str] = (),
    tokens_from: str | None = None,
) -> Callable[[Side], StoredRun]:
    """
    Meter each side's command, a container image's `docker run` included.

    Args:
        commands: for each side a command line, split as a shell would, without a shell.
        artifact_dir: where the readings go.
        power: sources; empty: the sensors there are.
        tokens_from: a running engine's `/metrics`.

    Raises:
        ConfigError: a command is empty or cannot be split.
        PowerUnavailableError: nothing can be metered here.
    """
    split = {}
    for side, text in commands.items():
        try:
            split[side] = shlex.split(text)
        except ValueError as error:
            raise ConfigError(
                f"the command of {side} cannot be split: {error}", remedy="check its quotes"
            ) from error
        if not split[side]:
            raise ConfigError(f"the command of {side} is empty", remedy="name a program")
    sources: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in power]
    sources = sources or measure.sensors()

    def run(side: Side) -> StoredRun:
        folder = artifact_dir / new_run_id(f"command-{side}")
        folder.mkdir(parents=True)
        measured = measure.measure_command(
            split[side], sources=sources, folder=folder, tokens_from=tokens_from
        )
        if measured.exit_code != 0:
            raise EngineError(
                f"the command of {side} ended with exit code {measured.exit_code}",
                remedy=f"run it by hand: {shlex.join(split[side])}",
            )
        record = dataclasses.replace(measured.record, run_id=folder.name)
        (folder / "run.json").write_bytes(record.to_json())
        return StoredRun(record=record)

    return run
