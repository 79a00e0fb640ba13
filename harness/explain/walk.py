"""The guided walk from one token's joules to dollars, megawatts and other accelerators."""

from __future__ import annotations

from harness.claims.formulas import Evidence
from harness.cost import formulas as cost
from harness.cost.case import Case

from .changes import changes
from .comparisons import limit, side_by_side
from .parts import Walk
from .steps import dollars, doubts, head, joules, megawatts, sources

DEFAULT_INTERACTIVITY = 50.0
"""Tokens a second a user, where the point does not know its own: fast reading, about."""


def walk(
    case: Case,
    evidence: Evidence,
    *,
    interactivity_tok_per_s: float | None = None,
    model_is_known: bool = False,
    seed: int = 0,
) -> Walk:
    """
    The whole walk for one case.

    Args:
        case: what is priced.
        evidence: catalogue, published points and the model the limit is computed for.
        interactivity_tok_per_s: at which accelerators are compared; None takes the point's own.
        model_is_known: the user named the model's config; else its name has to match.
        seed: of the intervals.
    """
    floor = interactivity_tok_per_s
    if floor is None:
        floor = case.point.interactivity_tok_per_s or DEFAULT_INTERACTIVITY
    cost.require("interactivity", floor, above=True)
    steps = (
        *joules(case),
        *dollars(case, evidence, seed=seed),
        megawatts(case),
        doubts(case),
        limit(case, evidence, model_is_known=model_is_known),
        side_by_side(case, evidence, floor),
        changes(case, evidence, floor),
    )
    return Walk(
        title="What does a token cost?",
        about=head(case),
        steps=(*steps, sources(case, steps)),
    )
