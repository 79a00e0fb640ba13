"""A comparison for people and programs: sentences, a Markdown summary, a JSON document."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from harness.report import rounded
from harness.stats.effects import Effect
from harness.stats.verdict import MOST_RUNS, Judged

from .comparison import Comparison, MetricRow

SCHEMA_VERSION: Final = 1
"""Version of the JSON document of a comparison."""
_MANY_OTHERS: Final = 40


def headline(found: Comparison) -> str:
    """The verdict in one sentence."""
    counts = f"{len(found.base)} base and {len(found.cand)} candidate runs"
    named = [row.key for row in found.rows if row.judged.word == found.word]
    return f"{found.word}: {', '.join(named)} ({counts}, {100 * found.alpha:.3g} % error rate)"


def change(one: Effect) -> str:
    """The change in percent, e.g. `+3.2 %`."""
    return f"{100 * (one.ratio - 1):+.2f} %"


def interval(one: Effect) -> str:
    """Its interval in percent; says so where there is none."""
    if one.low is None or one.high is None:
        return "no interval"
    return f"{100 * (one.low - 1):+.2f} … {100 * (one.high - 1):+.2f} %"


def advice(judged: Judged) -> str:
    """The reason, and how many more runs would settle it."""
    if judged.word != "cannot tell":
        return judged.reason
    if judged.more_runs is not None:
        return f"{judged.reason}; needs about {judged.more_runs} more runs a side"
    if judged.effect.sd is None:
        return f"{judged.reason}; make at least five runs a side"
    return f"{judged.reason}; not even {MOST_RUNS:,} more runs a side would settle it"


def p_text(row: MetricRow) -> str:
    """The adjusted p-value, with as many digits as it deserves."""
    p = row.judged.p_adjusted
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004 - three digits are shown


def title(row: MetricRow) -> str:
    """The metric's key; for joules that were not measured with their kind in capitals."""
    if row.kind in {None, "measured"}:
        return row.key
    return f"{row.key} ({str(row.kind).upper()})"


def markdown(found: Comparison) -> str:
    """A summary for a pull request's comment or a CI's summary page."""
    parts = [
        f"### joulemark: {found.word}",
        "",
        (
            f"{len(found.base)} base and {len(found.cand)} candidate runs; wrong *worse* or "
            f"*better* in at most {100 * found.alpha:.3g} % of comparisons without a change."
        ),
        "",
        "| metric | base | candidate | change | interval | p (Holm) | matters from | verdict |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    parts += [
        f"| `{title(row)}` | {rounded(row.base)} | {rounded(row.cand)} {row.unit} "
        f"| {change(row.judged.effect)} | {interval(row.judged.effect)} | {p_text(row)} "
        f"| {100 * row.judged.threshold_ratio:.3g} % | **{row.judged.word}** |"
        for row in found.rows
    ]
    parts += ["", *(f"- `{row.key}`: {advice(row.judged)}." for row in found.rows)]
    parts += ["", "**What changed**", "", *suspect_lines(found), ""]
    if found.findings:
        parts += ["**Read with care**", ""]
        parts += [f"- `{one.code}`: {one.message}" for one in found.findings]
        parts.append("")
    if found.others:
        parts += ["<details><summary>Metrics that were not judged</summary>", ""]
        parts += ["| metric | change | interval |", "|---|---:|---:|"]
        shown = list(found.others.items())[:_MANY_OTHERS]
        parts += [f"| `{key}` | {change(one)} | {interval(one)} |" for key, one in shown]
        parts += ["", "</details>", ""]
    return "\n".join(parts)


def suspect_lines(found: Comparison) -> Sequence[str]:
    """A line for each suspect, or one that says there is none."""
    if not found.suspects:
        return ["- nothing that joulemark records: look at what it does not"]
    return [
        f"- `{one.key}`: {', '.join(one.base)} → {', '.join(one.cand)}" for one in found.suspects
    ]


def document(found: Comparison) -> dict[str, Any]:
    """The JSON document: every number unrounded."""
    return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(found)}
