"""Recomputes published claims from their own data and says under which conditions each holds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from harness.cost.catalogue import Catalogue, Source, known
from harness.cost.catalogue_files import data_text, measured_points, model_shape
from harness.cost.point import Point
from harness.errors import ConfigError

from .formulas import FORMULAS, ClaimPoint, Evidence

Verdict = Literal["reproduced", "holds only if", "not supported by its data"]
SUBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "gpt-oss-120b": ("gpt-oss-120b",),
    "deepseek-r1": ("deepseek-r1",),
}
"""Subject to what a run's model name contains if it is of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    What is said.

    Args:
        id: its name in commands.
        text: in words.
        subject: the model or hardware it is said of.
        low: least value that would bear it out, tolerance included.
        high: most.
        published: as said, for the reader.
        unit: of the value.
        source: where it is said.
        ours: said by this project.
        only_if: a condition no number can test; it bars "reproduced".
        note: what a reader should know.
        cases: how it is recomputed; raw tables.
    """

    id: str
    text: str
    subject: str
    low: float
    high: float
    published: str
    unit: str
    source: Source
    ours: bool
    only_if: str
    note: str
    cases: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """
    One recomputation.

    Args:
        conditions: under which it was made.
        subject: model or hardware of its inputs.
        kind: `published`, `proxy`, `modelled`, or `yours`.
        value: in the claim's unit.
        line: the arithmetic, with its numbers.
        source: keys of where the inputs come from.
        holds: it bears the claim out.
        counts: it is evidence for or against the claim's own subject.
    """

    conditions: str
    subject: str
    kind: str
    value: float
    line: str
    source: str
    holds: bool
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """
    A claim with its verdict.

    Args:
        claim: what is said.
        verdict: what its data say.
        only_if: the conditions under which it holds.
        cases: every recomputation.
        own_cases: the same with the user's runs in place of published points.
        unused: runs that stand in for nothing here, each with the reason.
    """

    claim: Claim
    verdict: Verdict
    only_if: tuple[str, ...]
    cases: tuple[CaseResult, ...]
    own_cases: tuple[CaseResult, ...] = ()
    unused: tuple[str, ...] = ()


def evidence(catalogue: Catalogue) -> Evidence:
    """The package's points, measurements and model."""
    raw = tomllib.loads(data_text("claims.toml"))
    return Evidence(
        catalogue=catalogue,
        points={
            key: ClaimPoint(
                key=key,
                subject=table["subject"],
                accelerator=known(table["accelerator"], catalogue.accelerators, "accelerator"),
                tok_per_s=float(table["tok_per_s"]),
                basis=table["basis"],
                source=known(table["source"], catalogue.sources, "source"),
                stack=table["stack"],
                interactivity_tok_per_s=table.get("interactivity_tok_per_s"),
            )
            for key, table in raw["points"].items()
        },
        measured=measured_points()[0],
        model=model_shape(),
    )


def read(catalogue: Catalogue) -> list[Claim]:
    """The claims of the package, in the order of its file."""
    raw = tomllib.loads(data_text("claims.toml"))
    return [_claim(table, catalogue) for table in raw["claims"]]


def judge(claim: Claim, data: Evidence, runs: Sequence[Point] = ()) -> Judged:
    """
    Recompute a claim and give the verdict.

    Args:
        claim: what is said.
        data: what may be drawn on.
        runs: the user's own, put in place of published points of the same accelerator and model.

    Returns:
        `reproduced` if every counted case holds; `holds only if` if some do, or if a condition
        cannot be tested; `not supported by its data` if none does or none is on its subject.
    """
    cases = tuple(_result(claim, case, data) for case in claim.cases)
    counted = [case for case in cases if case.counts]
    holding = [case.conditions for case in counted if case.holds]
    only_if = (*holding, claim.only_if) if claim.only_if else tuple(holding)
    verdict: Verdict
    if not holding:
        verdict, only_if = "not supported by its data", ()
    elif len(holding) == len(counted) and not claim.only_if:
        verdict, only_if = "reproduced", ()
    else:
        verdict = "holds only if"
    own, unused = _with_runs(claim, data, runs)
    return Judged(
        claim=claim, verdict=verdict, only_if=only_if, cases=cases, own_cases=own, unused=unused
    )


def _claim(table: Mapping[str, Any], catalogue: Catalogue) -> Claim:
    relation = known(table["relation"], ("at least", "at most", "within"), "relation")
    slack = table["tolerance_ratio"]
    low = table.get("published_low", table.get("published", 0.0))
    high = table.get("published_high", table.get("published", 0.0))
    words = f"{low:g} to {high:g}" if relation == "within" else f"{relation} {low:g}"
    return Claim(
        id=table["id"],
        text=table["text"],
        subject=table["subject"],
        low=float("-inf") if relation == "at most" else low * (1 - slack),
        high=float("inf") if relation == "at least" else high * (1 + slack),
        published=f"{words} {table['unit']}",
        unit=table["unit"],
        source=catalogue.sources[known(table["source"], catalogue.sources, "source")],
        ours=bool(table.get("ours", False)),
        only_if=table.get("only_if", ""),
        note=table.get("note", ""),
        cases=tuple(table["cases"]),
    )


def _result(
    claim: Claim, case: Mapping[str, Any], data: Evidence, *, kind: str | None = None
) -> CaseResult:
    worked = FORMULAS[known(case["formula"], FORMULAS, "formula")](data, case)
    kind = kind or case.get("kind", "published")
    subject, source = _of_inputs(claim, case, data)
    return CaseResult(
        conditions=case["conditions"],
        subject=subject,
        kind=kind,
        value=worked.value,
        line=worked.line,
        source=source,
        holds=claim.low <= worked.value <= claim.high,
        counts=subject == claim.subject and kind not in {"modelled", "proxy"},
    )


def _of_inputs(claim: Claim, case: Mapping[str, Any], data: Evidence) -> tuple[str, str]:
    points = [data.point(case[key]) for key in ("candidate", "baseline", "point") if key in case]
    if points:
        subjects = sorted({point.subject for point in points})
        return " and ".join(subjects), ", ".join(sorted({point.source for point in points}))
    if case.get("kind") == "modelled":
        return claim.subject, "joulemark-fit"
    if case["formula"] == "tokens_per_joule_ratio":
        return "gpt-oss-120b", "mlenergy-v3"
    return case.get("subject", claim.subject), case.get("source", claim.source.key)


def _with_runs(
    claim: Claim, data: Evidence, runs: Sequence[Point]
) -> tuple[tuple[CaseResult, ...], tuple[str, ...]]:
    found: list[CaseResult] = []
    unused = []
    for run in runs:
        reason = _unfit(run, claim)
        own = [] if reason else [_replaced(claim, case, data, run) for case in claim.cases]
        results = [one for one in own if one is not None]
        found += results
        if not results:
            unused.append(f"{run.label}: {reason or 'no case has its accelerator and token basis'}")
    return tuple(found), tuple(dict.fromkeys(unused))


def _unfit(run: Point, claim: Claim) -> str | None:
    if run.power_kind != "measured":
        return f"its power is {run.power_kind}, and claims are checked with measurements only"
    if run.accelerator is None:
        return "its accelerator is not in the catalogue"
    parts = SUBJECTS.get(claim.subject)
    if parts is None:
        return f"{claim.subject} is no model"
    model = (run.model or "").lower()
    if not any(part in model for part in parts):
        return f"its model is {run.model!r}, the claim is of {claim.subject}"
    return None


def _replaced(
    claim: Claim, case: Mapping[str, Any], data: Evidence, run: Point
) -> CaseResult | None:
    """The case with *run* in place of every side of its accelerator; None if there is none."""
    if case["formula"] == "tokens_per_joule_ratio":
        sides = [
            side
            for side in ("candidate_accelerator", "baseline_accelerator")
            if case[side] == run.accelerator
        ]
        fast = run.interactivity_tok_per_s or 0.0
        if not sides or run.basis != "output" or fast < 1e3 / case.get("itl_cap_ms", 1e12):
            return None
        own = {**case, f"{sides[0]}_joules": run.j_per_token}
        return _named(_result(claim, own, data, kind="yours"), run)
    points = {
        point.key: replace(
            point, tok_per_s=run.tok_per_s, source="run", stack=run.label, basis=run.basis
        )
        for key in ("candidate", "baseline", "point")
        if key in case
        for point in [data.point(case[key])]
        if (point.accelerator, point.basis) == (run.accelerator, run.basis)
    }
    if not points:
        return None
    own_data = replace(data, points={**data.points, **points})
    return _named(_result(claim, case, own_data, kind="yours"), run)


def _named(result: CaseResult, run: Point) -> CaseResult:
    lengths = (
        f"its lengths are {run.input_tokens:.0f}/{run.output_tokens:.0f}"
        if run.input_tokens and run.output_tokens
        else "its lengths are not known"
    )
    text = f"with {run.label} ({run.tok_per_s:,.1f} {run.basis} tok/s a device; {lengths}) in place"
    return replace(result, conditions=f"{text}: {result.conditions}")


def find(claims: Sequence[Claim], ids: Sequence[str]) -> list[Claim]:
    """The claims of those ids, or all of them without any."""
    by_id = {claim.id: claim for claim in claims}
    if not ids:
        return list(claims)
    if missing := [one for one in ids if one not in by_id]:
        raise ConfigError(
            f"there is no claim {missing[0]!r}", remedy=f"choose one of: {', '.join(by_id)}"
        )
    return [by_id[one] for one in ids]
