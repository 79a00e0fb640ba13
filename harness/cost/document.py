"""The JSON document of a cost case: inputs with their sources, the split, intervals, tornado."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from .case import Case, owner_view
from .catalogue import Catalogue, Figure
from .range import COVERAGE, DRAWS, intervals, tornado

TORNADOES: Final = ("total_usd_per_mtok", "power_linked_usd_per_mtok", "facility_j_per_token")


def document(case: Case, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """
    Everything about one case, for programs.

    Args:
        case: what was computed.
        seed: of the draws behind the intervals.
        draws: how many.
    """
    point = case.point
    inputs, ranges = owner_view(case)
    spans = intervals(inputs, ranges, seed=seed, draws=draws)
    numbers = {
        name: getattr(case.result, name)
        for name in type(case.result).__dataclass_fields__
        if name != "findings"
    }
    return {
        "label": point.label,
        "power_kind": point.power_kind,
        "boundary": point.boundary,
        "token_basis": point.basis,
        "devices": point.devices,
        "model": point.model,
        "interactivity_tok_per_s": point.interactivity_tok_per_s,
        "accelerator": None if case.accelerator is None else case.accelerator.key,
        "site": case.site.key,
        "currency": case.site.currency,
        "host_power": case.host_method,
        "rate_basis": case.rate_basis,
        "rate_includes_power": case.inputs.rate_includes_power,
        "inputs": {name: figure_row(figure) for name, figure in sorted(case.figures.items())},
        "result": numbers | {"electricity_usd_per_mtok": case.result.electricity_usd_per_mtok},
        "interval": {
            "covers_ratio": COVERAGE,
            "draws": draws,
            "seed": seed,
            "of": {name: list(span) for name, span in sorted(spans.items())},
        },
        "tornado": {
            output: [
                dataclasses.asdict(bar) for bar in tornado(inputs, ranges, output) if bar.width > 0
            ]
            for output in TORNADOES
            if getattr(case.result, output) is not None
        },
        "findings": [dataclasses.asdict(finding) for finding in case.findings],
    }


def defaults_markdown(catalogue: Catalogue) -> str:
    """Every assumption of the model as a Markdown table; `docs/cost.md` holds it."""
    lines = [
        "| of | input | value | range | date | grade | source |",
        "| --- | --- | ---: | ---: | --- | --- | --- |",
    ]
    places = [
        *catalogue.sites.values(),
        *catalogue.tariffs.values(),
        *catalogue.grids.values(),
        catalogue.defaults,
        catalogue.physics_figures,
    ]
    seen = set()
    for place in places:
        for name, figure in place.figures.items():
            # What sites have in common is listed once.
            shared = (name, figure) if place.key in catalogue.sites else (place.key, name)
            if shared in seen:
                continue
            seen.add(shared)
            span = "" if figure.low == figure.high else f"{figure.low:g} to {figure.high:g}"
            note = f"; {figure.note}" if figure.note else ""
            lines.append(
                f"| {place.key} | {name} | {figure.value:.4g} | {span} | {figure.source.date} "
                f"| {figure.source.grade} | {figure.source.title}{note} |"
            )
    return "\n".join(lines) + "\n"


def figure_row(figure: Figure) -> dict[str, Any]:
    """A figure with its source, flat."""
    return {
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "source": figure.source.title,
        "where": figure.source.where,
        "date": figure.source.date,
        "grade": figure.source.grade,
        "unverified": figure.unverified,
        "note": figure.note,
    }
