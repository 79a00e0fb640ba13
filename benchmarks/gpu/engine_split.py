"""Splits the joules of a sweep's runs into prefill, decode and idling, a concurrency at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness import decompose
from harness.integrate import traces
from harness.phases.bins import Recording
from harness.phases.estimate import Split
from harness.record import Finding
from harness.store import RawRun
from harness.timeline import Window
from harness.tokens import token_times


def of_runs(raws: Sequence[RawRun]) -> Split | Finding:
    """
    Joules of prefill, decode and idling by `harness.decompose`, over repeats of one load.

    Repeats make the bins that one short run lacks. Other concurrencies are other loads: of
    eight times the streams an engine draws hardly more, so no J/token is common to them.

    Returns:
        The split; or why there is none.
    """
    found = [own for own in map(_recording, raws) if own is not None]
    devices = {own.trace.channel.device for own in found}
    if len(devices) > 1:
        return Finding(
            code="split_several_cards",
            severity="warning",
            message=f"no split: the runs are of {len(devices)} cards",
        )
    return decompose.pooled(found)


def _recording(raw: RawRun) -> Recording | None:
    """A run's loaded idle and load; None: it has no energy counter, or was cut."""
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    power = traces(raw.power_header, raw.power) if raw.power_header else []
    gpu = [trace for trace in power if trace.channel.boundary in {"gpu", "gpu_module"}]
    counters = [trace for trace in gpu if trace.channel.quantity == "energy"]
    if not counters or not {"measure_start", "measure_end"} <= edges.keys():
        return None
    device = counters[0].channel.device
    averages = [t for t in gpu if t.channel.sense == "average" and t.channel.device == device]
    windows = [
        Window(name=name, start_ns=edges[start], end_ns=edges[end])
        for name, start, end in (
            ("loaded_idle", "loaded_idle_start", "loaded_idle_end"),
            ("load", "measure_start", "measure_end"),
        )
        if start in edges and end in edges
    ]
    measured = raw.requests[raw.requests["phase"] == "measure"]
    mine = np.isin(raw.events["request"], measured["request"].to_numpy(np.int64))
    late = raw.events["t_ns"] >= edges["measure_start"]
    return Recording(
        trace=counters[0],
        windows=windows,
        tokens=token_times(raw.events[mine & late], measured),
        requests=measured,
        average=averages[0] if averages else None,
    )


def as_row(found: Split | Finding) -> Mapping[str, Any]:
    """For `results.json`: the split's numbers, or `refused` with the reason."""
    if isinstance(found, Finding):
        return {"refused": found.message, "code": found.code}
    return {"contradicted": found.contradicted, **dataclasses.asdict(found)}
