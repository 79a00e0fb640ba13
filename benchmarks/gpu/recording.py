"""Records a step of the protocol: the sampler's journal beside a JSON of what was done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.integrate import traces
from harness.journal import read_journal
from harness.sampler import Sampler
from harness.timeline import POWER_DTYPE, PowerTrace

LEAD_S, TAIL_S = 0.5, 0.4


def write_json(path: Path, document: Any) -> None:  # noqa: ANN401 - any JSON
    """Write whole or not at all, so that a step that was cut leaves no file that looks done."""
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    scratch.replace(path)


def read_json(path: Path) -> Any:  # noqa: ANN401 - same
    """What `write_json` wrote; None: it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@contextlib.contextmanager
def recorded(
    folder: Path,
    name: str,
    *,
    power_hz: float = 50.0,
    counter_hz: float = 20.0,
    aim: bool = False,
) -> Iterator[tuple[Sampler, dict[str, Any]]]:
    """
    Sample NVML while the block runs; its facts go to `NAME.json`, the readings to `NAME.jmj`.

    What a sensor is like is asked at times that take nothing for granted, so reads are not aimed
    at expected ticks unless *aim* says so.

    The JSON is written last and only if the block ends well: it says that the step is done.
    What a step that failed has read stays in `NAME.failed-N.jmj`.
    """
    journal = folder / f"{name}.jmj"
    if journal.exists():
        # Of an earlier try that was cut: kept, beside.
        count = sum(1 for _ in folder.glob(f"{name}.failed-*.jmj"))
        journal.rename(folder / f"{name}.failed-{count}.jmj")
    sampler = Sampler(journal, [("nvml", {})], power_hz=power_hz, counter_hz=counter_hz, aim=aim)
    sampler.start()
    step: dict[str, Any] = {"asked_hz": [power_hz, counter_hz], "facts": sampler.facts()}
    try:
        time.sleep(LEAD_S)
        yield sampler, step
        time.sleep(TAIL_S)
    finally:
        audit = sampler.stop()
    step["audit"] = dataclasses.asdict(audit)
    write_json(folder / f"{name}.json", step)


def traces_of(folder: Path, name: str) -> list[PowerTrace]:
    """The channels of a recorded step; empty if it was not recorded."""
    path = folder / f"{name}.jmj"
    if not path.exists():
        return []
    header, records, _ = read_journal(path, POWER_DTYPE)
    return traces(header, records)


def gpu_channels(found: list[PowerTrace]) -> dict[str, PowerTrace]:
    """`counter`, `instant`, `average` of the first GPU's own boundary."""
    chosen: dict[str, PowerTrace] = {}
    for trace in found:
        if trace.channel.boundary in {"gpu", "gpu_module"}:
            chosen.setdefault(trace.channel.sense, trace)
    return chosen
