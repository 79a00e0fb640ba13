"""Compares two sets of runs: refuses unlike ones, judges metrics, names what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from harness.errors import ConfigError
from harness.metrics import BOUNDARIES, boundary_of, card_of
from harness.record import Finding
from harness.stats.effects import ALPHA, Effect, effect
from harness.stats.verdict import Judged, Word, judge, overall

from .likeness import Suspect, check_like, suspects
from .sets import RunSet, began_ns
from .spread import Floats, latencies_of, spread_of
from .thresholds import default_threshold

FEW_RUNS: Final = 5
_PARTS: Final = frozenset({"gpu_memory", "cpu_dram"})
_JUDGED: Final = (
    "{boundary}_j_per_output_token",
    "output_throughput_tok_per_s",
    "ttft_s.p50",
    "tpot_s.mean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """
    One metric of a comparison.

    Args:
        key: of the metric.
        unit: of the two values.
        base: geometric mean over the base's runs.
        cand: over the candidate's.
        kind: measured, modelled or emulated, for joules; None for others.
        judged: the verdict, with the effect it rests on.
    """

    key: str
    unit: str
    base: float
    cand: float
    kind: str | None
    judged: Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    What a comparison found.

    Args:
        base: run ids.
        cand: run ids.
        word: over all judged metrics.
        rows: judged metrics, in the order asked for.
        others: metrics that were not judged: ratio and interval, and no verdict.
        suspects: what changed.
        findings: what a reader has to know.
        alpha: rate of wrong *worse* or *better*, over all rows together.
        power_kind: of all runs.
    """

    base: list[str]
    cand: list[str]
    word: Word
    rows: list[MetricRow]
    others: dict[str, Effect]
    suspects: list[Suspect]
    findings: list[Finding]
    alpha: float
    power_kind: str | None


def compare(
    base: RunSet,
    cand: RunSet,
    *,
    thresholds: Mapping[str, float] | None = None,
    allow: Sequence[str] = (),
    alpha: float = ALPHA,
    seed: int = 0,
) -> Comparison:
    """
    Hold a candidate's runs against a base's.

    Args:
        base: runs of what is known.
        cand: runs of what is new.
        thresholds: metric → the smallest relative change that matters; exactly these
            are judged. None: joules per token, throughput, and two latencies,
            each with its default.
        allow: keys in which runs may differ.
        alpha: rate of wrong *worse* or *better*, over all judged metrics together.
        seed: of the bootstrap.

    Raises:
        ConfigError: the runs are not alike, or lack a metric that was asked for.
    """
    allowed = check_like(base, cand, allow=allow)
    chosen = dict(thresholds) if thresholds else defaults(base, cand)
    if not chosen:
        raise ConfigError(
            "the runs have no metric in common that could be judged",
            remedy="compare runs of the same kind; `joulemark show RUN` says what one has",
        )
    # Read once for all metrics: a run's requests are many, and on disk.
    wanted = any(card_of(key).distribution for key in chosen)
    latencies = [[latencies_of(run) if wanted else {} for run in one.runs] for one in (base, cand)]
    effects = {}
    for key in chosen:
        direction(key)
        effects[key] = _effect(base, cand, key, latencies, alpha=alpha, seed=seed)
    verdicts = judge(
        list(effects.values()), list(chosen.values()), [direction(key) for key in chosen],
        alpha=alpha,
    )  # fmt: skip
    rows = [_row(base, cand, key, judged) for key, judged in zip(chosen, verdicts, strict=True)]
    others = {
        key: effect(*_columns(base, cand, key), alpha=alpha, seed=seed, draws=1_000)
        for key in shared(base, cand)
        if key not in chosen and card_of(key).better is not None
    }
    return Comparison(
        base=base.ids,
        cand=cand.ids,
        word=overall([row.judged.word for row in rows]),
        rows=rows,
        others=others,
        suspects=suspects(base, cand),
        findings=_findings(base, cand, allowed),
        alpha=alpha,
        power_kind=base.records[0].power_kind,
    )


def defaults(base: RunSet, cand: RunSet) -> dict[str, float]:
    """The metrics judged unless asked otherwise, those that all runs have, with thresholds."""
    boundaries = [name for name in BOUNDARIES if name not in _PARTS]
    keys = [
        template.format(boundary=boundary)
        for template in _JUDGED
        for boundary in (boundaries if "{boundary}" in template else [""])
    ]
    common = shared(base, cand)
    return {key: default_threshold(key) for key in dict.fromkeys(keys) if key in common}


def shared(base: RunSet, cand: RunSet) -> list[str]:
    """Metrics that every run has, with a value above 0 in each."""
    records = [*base.records, *cand.records]
    return [
        key
        for key in records[0].metrics
        if all(key in one.metrics and one.metrics[key].value > 0 for one in records)
    ]


def direction(key: str) -> Any:  # noqa: ANN401 - a Literal that mypy cannot narrow from the card
    """
    Which way is an improvement of a metric.

    Raises:
        ConfigError: there is no such metric, or neither way is.
    """
    better = card_of(key).better
    if better is None:
        raise ConfigError(
            f"{key} cannot be judged: neither more nor less of it is better",
            remedy="choose a metric that has a direction; docs/metrics.md lists them",
        )
    return better


def _columns(base: RunSet, cand: RunSet, key: str) -> tuple[list[float], list[float]]:
    sides = []
    for run_set in (base, cand):
        for record in run_set.records:
            value = record.metrics.get(key)
            if value is None or value.value <= 0:
                raise ConfigError(
                    f"{record.run_id} ({run_set.label}) has no {key}"
                    if value is None
                    else f"{record.run_id} ({run_set.label}) has {key} {value.value}, not above 0",
                    remedy="its findings say why; judge another metric, or leave the run out",
                )
        sides.append([record.metrics[key].value for record in run_set.records])
    return sides[0], sides[1]


def _effect(
    base: RunSet,
    cand: RunSet,
    key: str,
    latencies: Sequence[Sequence[Mapping[str, Floats]]],
    *,
    alpha: float,
    seed: int,
) -> Effect:
    columns = _columns(base, cand, key)
    rng = np.random.default_rng(seed)
    spreads = [spread_of(side, key, rng) for side in latencies]
    both = (spreads[0], spreads[1]) if spreads[0] and spreads[1] else None
    return effect(*columns, alpha=alpha, seed=seed, spread=both)


def _row(base: RunSet, cand: RunSet, key: str, judged: Judged) -> MetricRow:
    columns = _columns(base, cand, key)
    means = [float(np.exp(np.mean(np.log(column)))) for column in columns]
    return MetricRow(
        key=key,
        unit=card_of(key).unit,
        base=means[0],
        cand=means[1],
        kind=base.records[0].power_kind if boundary_of(key) else None,
        judged=judged,
    )


def _findings(base: RunSet, cand: RunSet, allowed: Sequence[str]) -> list[Finding]:
    found = []
    kind = base.records[0].power_kind
    if kind in {"modelled", "emulated"}:
        message = f"every joule compared here is {kind.upper()}, not measured"
        found.append(Finding(code="power_not_measured", severity="warning", message=message))
    if allowed:
        message = f"the runs differ, as allowed, in: {', '.join(sorted(set(allowed)))}"
        found.append(Finding(code="unlike", severity="warning", message=message))
    few = [f"{one.label} {len(one.runs)}" for one in (base, cand) if len(one.runs) < FEW_RUNS]
    if few:
        message = (
            f"few runs ({', '.join(few)}): {FEW_RUNS} a side are the least for a number that is "
            "shown to others"
        )
        found.append(Finding(code="few_runs", severity="warning", message=message))
    times = [[began_ns(record) for record in one.records] for one in (base, cand)]
    if max(times[0]) < min(times[1]) or max(times[1]) < min(times[0]):
        message = (
            "all runs of one side came before all of the other: whatever else changed between, "
            "the room's temperature or a neighbour, looks like the change that is judged; "
            "`joulemark regress` interleaves them"
        )
        found.append(Finding(code="not_interleaved", severity="warning", message=message))
    return found
