"""A record's metrics as rows of a table, each with everything needed to read it alone."""

from __future__ import annotations

from typing import Any

from harness.metrics import boundary_of, card_of
from harness.record import RunRecord


def rows(record: RunRecord) -> list[dict[str, Any]]:
    """One row a metric, in the record's order; a missing bound is None."""
    engine = record.provenance.get("engine", {})
    shared = {
        "run_id": record.run_id,
        "status": record.status,
        "engine": engine.get("engine"),
        "engine_version": engine.get("version"),
        "model": record.config.get("engine", {}).get("model"),
        "concurrency": record.config.get("load", {}).get("concurrency"),
        "window": record.windows[0]["name"] if record.windows else None,
        "invalid": any(finding.severity == "invalid" for finding in record.findings),
    }
    return [
        {
            **shared,
            "metric": key,
            "value": value.value,
            "low": value.low,
            "high": value.high,
            "unit": value.unit,
            "n": value.n,
            "better": card_of(key).better,
            # Only what holds joules has a kind; it says whether a sensor stands behind it.
            "power_kind": record.power_kind if boundary_of(key) else None,
        }
        for key, value in record.metrics.items()
    ]
