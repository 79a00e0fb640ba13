"""Makes run records and folders with given numbers, for tests of comparisons."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import orjson

from harness.compare.sets import RunSet, StoredRun, run_set
from harness.record import RunRecord

GOLDEN = Path(__file__).parent / "golden" / "run"
MINUTE_NS = 60 * 10**9
ENERGY = "gpu_j_per_output_token"
SPEED = "output_throughput_tok_per_s"


def golden() -> RunRecord:
    path = GOLDEN / "run.json"
    return RunRecord.from_json(path.read_bytes(), where=str(path))


def record(
    run_id: str, factor: float = 1.0, *, minute: int = 0, kind: str = "measured", **changed: Any
) -> RunRecord:
    """
    The golden record with joules per token and latencies times *factor*, throughput over it.

    Args:
        run_id: of the new record.
        factor: above 1 is worse.
        minute: when it began.
        kind: of its power.
        changed: `section__key=value` below config, provenance or tokens, dots as `__`.
    """
    one = golden()
    metrics = {}
    for key, value in one.metrics.items():
        scale = 1 / factor if key.startswith(("output_t", "total_t", "request_t", "inter")) else 1.0
        if "_j_per_" in key or key.startswith(("ttft", "tpot", "itl", "e2e")):
            scale = factor
        metrics[key] = dataclasses.replace(
            value, value=value.value * scale, low=None, high=None, interval=None
        )
    config, provenance = copy.deepcopy(one.config), copy.deepcopy(one.provenance)
    tokens = dict(one.tokens)
    provenance["anchor"]["t_wall_ns"] += minute * MINUTE_NS
    for path, value in changed.items():
        place: Any = {"config": config, "provenance": provenance, "tokens": tokens}
        *way, last = path.split("__")
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return dataclasses.replace(
        one, run_id=run_id, metrics=metrics, power_kind=kind, config=config, provenance=provenance,
        tokens=tokens,
    )  # fmt: skip


def side(label: str, factors: list[float], *, start: int = 0, **changed: Any) -> RunSet:
    """A set of runs, one a factor, two minutes apart."""
    return run_set(
        label,
        [
            StoredRun(record=record(f"{label}-{i}", one, minute=start + 2 * i, **changed))
            for i, one in enumerate(factors)
        ],
    )


def folders(base: Path, runs: RunSet) -> list[Path]:
    """Write the records as run folders, as far as a comparison reads them."""
    made = []
    for one in runs.records:
        folder = base / one.run_id
        folder.mkdir(parents=True)
        manifest = {"run_id": one.run_id, "config": one.config, "provenance": one.provenance}
        (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
        (folder / "run.json").write_bytes(one.to_json())
        made.append(folder)
    return made
