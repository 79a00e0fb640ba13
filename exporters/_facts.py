"""What a page says in words about runs: findings, provenance, numbers; as rows of texts."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exporters._text import interval_of, kind_of, number, title_of
from harness.metrics import BOUNDARIES, boundary_of, card_of
from harness.record import RunRecord

Rows = list[list[str]]
SEVERITIES: Final = ("invalid", "warning", "info")
_CARDS: Final = (
    "{boundary}_j_per_output_token",
    "{boundary}_average_w",
    "output_throughput_tok_per_s",
    "ttft_s.p50",
    "interactivity_tok_per_s.p50",
    "{boundary}_energy_usd_per_mtok_output",
)
_MAIN: Final = (
    "engine.engine", "engine.version", "engine.weights", "engine.model", "machine.cpu",
    "machine.kernel", "workload.kind", "load.pattern", "load.concurrency", "power.sources",
    ".driver", ".name", ".power_limit_w", ".vbios", "config.seed",
)  # fmt: skip
_MOST_VALUES: Final = 5


def card_keys(record: RunRecord) -> list[str]:
    """The metrics that matter most, boundaries filled in; the record may lack some."""
    present = {boundary_of(key) for key in record.metrics}
    boundaries = [one for one in BOUNDARIES if one in present and one != "gpu_memory"]
    return list(
        dict.fromkeys(
            template.format(boundary=one) for template in _CARDS for one in (boundaries or [""])
        )
    )


def findings(records: Sequence[RunRecord]) -> list[tuple[str, str, str, str]]:
    """(severity, code, message, run id), the gravest first."""
    rows = [
        (finding.severity, finding.code, finding.message, record.run_id)
        for record in records
        for finding in record.findings
    ]
    return sorted(rows, key=lambda row: SEVERITIES.index(row[0]))


def grouped_findings(records: Sequence[RunRecord]) -> tuple[list[str], Rows]:
    """Head and rows; a thousand runs say the same few things, so each is there once."""
    grouped: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for severity, code, message, run_id in findings(records):
        grouped.setdefault((severity, code), []).append((message, run_id))
    rows = [
        [severity, code, str(len(said)), said[0][0], said[0][1]]
        for (severity, code), said in grouped.items()
    ]
    return ["severity", "code", "runs", "e.g.", "in"], rows


def provenance(records: Sequence[RunRecord]) -> Rows:
    """The main facts about what the runs are of."""
    described = [everything(record) for record in records]
    keys = dict.fromkeys(key for one in described for key in one if key.endswith(_MAIN))
    begun = sorted(one["begun"] for one in described)
    rows = [["begun", begun[0] if len(begun) == 1 else f"{begun[0]} to {begun[-1]}"]]
    rows += [[key, _values([one.get(key, "not recorded") for one in described])] for key in keys]
    return rows


def everything(record: RunRecord) -> dict[str, str]:
    """All facts about one run, flat."""
    anchor = record.provenance.get("anchor", {}).get("t_wall_ns")
    begun = (
        f"{dt.datetime.fromtimestamp(anchor / 1e9, tz=dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
        if anchor
        else "not recorded"
    )
    chosen = ("joulemark", "machine", "engine", "python", "packages")
    power = record.provenance.get("power", {}).get("at_start", {})
    known = {key: record.provenance[key] for key in chosen if key in record.provenance}
    return {"begun": begun, **dict(_flat({"config": record.config, **known, "power": power}))}


def runs(records: Sequence[RunRecord]) -> tuple[list[str], Rows]:
    """Head and a row a run, of the metrics that matter most."""
    keys = [
        key
        for key in dict.fromkeys(key for record in records[:50] for key in card_keys(record))
        if any(key in record.metrics for record in records)
    ]
    head = ["run", "power", *(f"{title_of(key)} ({card_of(key).unit})" for key in keys)]
    return head, [
        [record.run_id, kind_of(record).upper(), *(_cell(record, key) for key in keys)]
        for record in records
    ]


def metrics(record: RunRecord) -> tuple[list[str], Rows]:
    """Head and a row a metric."""
    return ["metric", "value", "interval", "n", "key"], [
        [
            title_of(key),
            f"{number(value.value)} {value.unit}",
            interval_of(value),
            str(value.n),
            key,
        ]
        for key, value in record.metrics.items()
    ]


def _values(values: Sequence[str]) -> str:
    """One value, or each that occurs with how often it does."""
    counts = Counter(values)
    if len(counts) == 1:
        return values[0]
    named = [
        f"{value} ({count} run{'s' if count > 1 else ''})"
        for value, count in counts.most_common(_MOST_VALUES)
    ]
    more = len(counts) - len(named)
    return ", ".join(named) + (f", {more} more" if more else "")


def _cell(record: RunRecord, key: str) -> str:
    value = record.metrics.get(key)
    return "not available" if value is None else number(value.value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not known" if value is None else str(value)))
    return rows
