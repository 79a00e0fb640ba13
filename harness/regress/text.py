"""A regression's verdict for people and programs: lines, Markdown, JSON."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from harness.plural import counted
from harness.stats.sequential import Sequential

from .loop import Regression, RegressRow

SCHEMA_VERSION: Final = 1
_STOPPED: Final = {
    "verdict": "the verdict is firm",
    "pairs": "the most pairs were run",
    "budget": "the budget ended",
    "user": "stopped by the user",
}


def row_text(row: RegressRow) -> str:
    """One metric in one line."""
    one = row.sequential
    return f"{row.key}: {one.word}, {_change(one)} ({_interval(one)}), e-value {_evidence(one)}"


def lines(found: Regression) -> list[str]:
    """The whole verdict, for a terminal."""
    text = [row_text(row) for row in found.rows]
    text += ["what differs:", *(f"  {line}" for line in _suspects(found))]
    text += [f"{one.severity} {one.code}: {one.message}" for one in found.findings]
    return [*text, _headline(found)]


def markdown(found: Regression) -> str:
    """A summary for a pull request's comment or a CI's summary page."""
    parts = [f"### joulemark regress: {found.word}", "", _headline(found) + ".", ""]
    parts += [
        "| metric | change | interval, valid at any look | e-value | matters from | verdict |",
        "|---|---:|---:|---:|---:|---|",
    ]
    parts += [
        f"| `{row.key}` | {_change(row.sequential)} | {_interval(row.sequential)} "
        f"| {_evidence(row.sequential)} | {100 * row.threshold_ratio:.3g} % "
        f"| **{row.sequential.word}** |"
        for row in found.rows
    ]
    parts += ["", "**What differs**", "", *(f"- {line}" for line in _suspects(found)), ""]
    parts += [f"- `{one.code}`: {one.message}" for one in found.findings]
    return "\n".join([*parts, ""])


def document(found: Regression) -> dict[str, Any]:
    """The JSON document: every number unrounded."""
    return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(found)}


def _headline(found: Regression) -> str:
    pairs = max((row.sequential.pairs for row in found.rows), default=0)
    return (
        f"{found.word} after {counted(pairs, 'pair')} ({found.order}): {_STOPPED[found.stopped]}; "
        f"{100 * found.alpha:.3g} % error rate over all metrics and looks"
    )


def _change(one: Sequential) -> str:
    return "no pair yet" if one.ratio is None else f"{100 * (one.ratio - 1):+.2f} %"


def _interval(one: Sequential) -> str:
    if one.low is None or one.high is None:
        return "unbounded yet"
    return f"{100 * (one.low - 1):+.2f} … {100 * (one.high - 1):+.2f} %"


def _evidence(one: Sequential) -> str:
    if one.e_value is None:
        return "-"
    return f"{one.e_value:.3g}" if one.e_value < 1e6 else "> 1e6"  # noqa: PLR2004 - enough


def _suspects(found: Regression) -> list[str]:
    if not found.suspects:
        return ["nothing that joulemark records"]
    return [f"{one.key}: {', '.join(one.base)} → {', '.join(one.cand)}" for one in found.suspects]
