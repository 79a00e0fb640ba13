"""Whether a run can be trusted, subject by subject: findings, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .record import Finding, RunRecord
from .subjects import REMEDIES, SUBJECTS, Spoils, Weight

Numbers = Literal["energy", "latency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    What is known of one subject.

    Args:
        subject: a stable word, e.g. `throttling`.
        weight: `good`: looked at and in order; `note`: know it; `unknown`: nothing was
            recorded to tell by; `problem`: do not rely on the numbers it spoils.
        spoils: which numbers a problem spoils.
        code: of the finding behind it; the subject where there is none.
        message: what is the matter and what to do, for people.
    """

    subject: str
    weight: Weight
    spoils: Spoils
    code: str
    message: str


def check(record: RunRecord) -> list[Check]:
    """
    Everything that speaks for and against relying on a run.

    A finding keeps the weight the record gave it: what is not `info` there is a
    problem here. Facts are looked at only where the record has no finding.

    Args:
        record: of a run or a metered command.

    Returns:
        In a fixed order of subjects, the findings of none of them last.
    """
    found: list[Check] = []
    claimed: set[str] = set()
    for name, subject in SUBJECTS.items():
        own = [finding for finding in record.findings if finding.code in subject.codes]
        claimed |= subject.codes
        found += [_of_finding(name, subject.spoils, finding) for finding in own]
        if any(finding.severity != "info" for finding in own):
            continue
        said = subject.look(record)
        if said is not None:
            weight, message = said
        elif own:
            continue
        else:
            weight, message = "good", subject.good
        found.append(
            Check(subject=name, weight=weight, spoils=subject.spoils, code=name, message=message)
        )
    found += [
        _of_finding("other", "all", finding)
        for finding in record.findings
        if finding.code not in claimed
    ]
    return found


def _of_finding(subject: str, spoils: Spoils, finding: Finding) -> Check:
    message = finding.message
    remedy = REMEDIES.get(finding.code)
    return Check(
        subject=subject,
        weight="note" if finding.severity == "info" else "problem",
        spoils=spoils,
        code=finding.code,
        message=f"{message}: {remedy}" if remedy else message,
    )
