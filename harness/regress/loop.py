"""Runs base and candidate in turns until the verdict is firm or the budget ends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from harness.compare.comparison import defaults, direction, shared
from harness.compare.likeness import Suspect, check_like, check_set, suspects
from harness.compare.sets import RunSet, StoredRun, run_set
from harness.errors import ConfigError
from harness.record import Finding
from harness.stats.effects import ALPHA
from harness.stats.sequential import Sequential, sequential
from harness.stats.verdict import Direction, Word, overall

Side = Literal["base", "cand"]
Stopped = Literal["verdict", "pairs", "budget", "user"]
_ENERGY: Final = "_energy_j"
_ENERGY_THRESHOLD: Final = 0.02
MOST_REPEATS: Final = 2
"""Runs in a row that may be repeated because something spoilt them."""
MIN_PAIRS: Final = 4
"""Fewer cannot decide: two pairs never, three only what is plain without a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressRow:
    """
    One judged metric.

    Args:
        key: of the metric.
        threshold_ratio: the smallest change that matters.
        sequential: what the pairs so far say.
    """

    key: str
    threshold_ratio: float
    sequential: Sequential


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """
    What interleaved runs found.

    Args:
        word: over all judged metrics.
        rows: the judged metrics.
        stopped: why it ended.
        base: run ids, in order of time.
        cand: run ids.
        order: which side each run was of, e.g. `ABBA` with A for base.
        suspects: what differs between the sides.
        findings: what a reader has to know.
        alpha: rate of wrong *worse* or *better*, over all rows and all looks.
        power_kind: of all runs.
    """

    word: Word
    rows: list[RegressRow]
    stopped: Stopped
    base: list[str]
    cand: list[str]
    order: str
    suspects: list[Suspect]
    findings: list[Finding]
    alpha: float
    power_kind: str | None


def orders(seed: int) -> Iterator[tuple[Side, Side]]:
    """
    Which side goes first in each pair: ABBA or BAAB, by lot.

    Within four runs each side has the same mean place, so a steady drift, of a
    room that warms up, say, weighs on both alike.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret hangs on it
    while True:
        first: tuple[Side, Side] = rng.choice((("base", "cand"), ("cand", "base")))
        yield first
        yield first[::-1]


def regress(
    run: Callable[[Side], StoredRun],
    *,
    thresholds: Mapping[str, float] | None = None,
    allow: Sequence[str] = (),
    same_work: bool = False,
    max_pairs: int = 20,
    budget_s: float | None = None,
    seed: int = 0,
    alpha: float = ALPHA,
    rest: Callable[[], list[Finding]] = list,
    clock_s: Callable[[], float],
    stopping: Callable[[], bool] = bool,
    watch: Callable[[int, Sequence[RegressRow]], None] = lambda _pairs, _rows: None,
) -> Regression:
    """
    Compare two environments by turns.

    Args:
        run: does one run of one side.
        thresholds: metric → the smallest change that matters; None: the usual ones.
        allow: keys in which the sides may differ.
        same_work: every run does the same work, as a command does that is given by its
            arguments; then less energy is better, and it is judged if nothing else is asked.
        max_pairs: the most pairs.
        budget_s: no new pair is begun that would end later, going by the longest so far.
        seed: of the order.
        alpha: rate of wrong *worse* or *better*, over all metrics and all looks; each
            metric gets its share (Bonferroni, as looks and metrics cannot be ordered).
        rest: called before every run, to cool down; what it says goes to the findings.
        clock_s: a clock that does not step.
        stopping: whether the user wants to end.
        watch: told of the rows after every pair.

    Returns:
        The verdict; *cannot tell* where the budget ended first.

    Raises:
        ConfigError: a pair is not alike, or the most pairs cannot decide anything.
        JoulemarkError: a run failed.
    """
    if max_pairs < MIN_PAIRS:
        raise ConfigError(
            f"{max_pairs} pairs can never decide", remedy=f"allow at least {MIN_PAIRS} pairs"
        )
    started = clock_s()
    longest = 0.0
    sides: dict[Side, list[StoredRun]] = {"base": [], "cand": []}
    order = ""
    notes: list[Finding] = []
    chosen: dict[str, float] = {}
    rows: list[RegressRow] = []
    allowed: list[str] = []
    stopped: Stopped = "pairs"
    for pair, sequence in enumerate(orders(seed)):
        begun = clock_s()
        if pair == max_pairs:
            break
        if budget_s is not None and pair and begun + longest - started > budget_s:
            stopped = "budget"
            break
        for side in sequence:
            sides[side].append(
                _reliable(run, side, allow=allow, rest=rest, notes=notes, stopping=stopping)
            )
            order += "A" if side == "base" else "B"
            if stopping():
                break
        if stopping():
            stopped = "user"
            break
        longest = max(longest, clock_s() - begun)
        base, cand = _sets(sides)
        allowed = check_like(base, cand, allow=allow)
        if not chosen:
            chosen = dict(thresholds) if thresholds else _usual(base, cand, same_work=same_work)
        rows = _judge(sides, chosen, alpha, same_work=same_work)
        watch(pair + 1, rows)
        if _firm(rows):
            stopped = "verdict"
            break
    return _result(
        sides, rows, order=order, stopped=stopped, notes=notes, allowed=allowed, alpha=alpha
    )


def _judge(
    sides: Mapping[Side, Sequence[StoredRun]],
    chosen: Mapping[str, float],
    alpha: float,
    *,
    same_work: bool,
) -> list[RegressRow]:
    if not chosen:
        raise ConfigError(
            "the runs have no metric in common that could be judged",
            remedy="`joulemark show RUN` says what one has and why the rest is missing",
        )
    rows = []
    for key, threshold in chosen.items():
        ratios = [
            math.log(_value(cand, key) / _value(base, key))
            for base, cand in zip(sides["base"], sides["cand"], strict=True)
        ]
        better: Direction = "lower" if same_work and key.endswith(_ENERGY) else direction(key)
        found = sequential(
            ratios, threshold_ratio=threshold, better=better, alpha=alpha / len(chosen)
        )
        rows.append(RegressRow(key=key, threshold_ratio=threshold, sequential=found))
    return rows


def _reliable(
    run: Callable[[Side], StoredRun],
    side: Side,
    *,
    allow: Sequence[str],
    rest: Callable[[], list[Finding]],
    notes: list[Finding],
    stopping: Callable[[], bool],
) -> StoredRun:
    """
    One run; one that says of itself that it cannot be relied on is repeated, and that is noted.

    Raises:
        ConfigError: it happens more than MOST_REPEATS times in a row.
    """
    for _ in range(MOST_REPEATS):
        notes += rest()
        found = run(side)
        if stopping():
            return found
        try:
            check_set(run_set(side, [found]), allow=allow)
        except ConfigError as error:
            message = f"a run of {side} was repeated, because {error.problem}"
            notes.append(Finding(code="run_repeated", severity="warning", message=message))
            continue
        return found
    notes += rest()
    return run(side)


def _usual(base: RunSet, cand: RunSet, *, same_work: bool) -> dict[str, float]:
    if not same_work:
        return defaults(base, cand)
    # Parts of a GPU or a package are in the whole already.
    keys = [key for key in shared(base, cand) if key.endswith(_ENERGY) and "_memory" not in key]
    return dict.fromkeys(keys, _ENERGY_THRESHOLD) | defaults(base, cand)


def _value(run: StoredRun, key: str) -> float:
    metric = run.record.metrics.get(key)
    if metric is None or metric.value <= 0:
        raise ConfigError(
            f"{run.record.run_id} has no {key} above 0",
            remedy="its findings say why; judge another metric with --fail-on",
        )
    return metric.value


def _firm(rows: Sequence[RegressRow]) -> bool:
    """One metric that is worse settles it; otherwise every metric must be settled."""
    words = [row.sequential.word for row in rows]
    return "worse" in words or "cannot tell" not in words


def _sets(sides: Mapping[Side, Sequence[StoredRun]]) -> tuple[RunSet, RunSet]:
    return run_set("base", sides["base"]), run_set("candidate", sides["cand"])


def _result(
    sides: Mapping[Side, Sequence[StoredRun]],
    rows: list[RegressRow],
    *,
    order: str,
    stopped: Stopped,
    notes: Sequence[Finding],
    allowed: Sequence[str],
    alpha: float,
) -> Regression:
    both = all(sides.values())
    runs = [*sides["base"], *sides["cand"]]
    kind = runs[0].record.power_kind if runs else None
    # Each note once; how often runs were repeated matters, so those are all kept.
    findings = list({one.message: one for one in notes}.values())
    if kind in {"modelled", "emulated"}:
        message = f"every joule compared here is {kind.upper()}, not measured"
        findings.append(Finding(code="power_not_measured", severity="warning", message=message))
    if allowed:
        message = f"the runs differ, as allowed, in: {', '.join(sorted(set(allowed)))}"
        findings.append(Finding(code="unlike", severity="warning", message=message))
    return Regression(
        word=overall([row.sequential.word for row in rows]),
        rows=rows,
        stopped=stopped,
        base=[run.record.run_id for run in sides["base"]],
        cand=[run.record.run_id for run in sides["cand"]],
        order=order,
        suspects=suspects(*_sets(sides)) if both else [],
        findings=findings,
        alpha=alpha,
        power_kind=kind,
    )
