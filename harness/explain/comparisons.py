"""Steps of the walk that compare: with physics, and accelerators at one interactivity."""

from __future__ import annotations

from typing import Final

from harness.claims.formulas import OWNED_SOURCE, Evidence
from harness.cost import formulas as cost
from harness.cost.case import Case, Choice, build
from harness.cost.catalogue import device
from harness.cost.point import of_published
from harness.plural import counted
from harness.roofline.bound import Serving
from harness.roofline.distance import ASSUMED_TOKENS, distance_of_point
from harness.roofline.fit import MeasuredPoint
from harness.roofline.search import best, frontier, natural

from .parts import Grid, Step

MARKET: Final = frozenset({"owned", "rental", "on-demand"})
Rows = tuple[tuple[str, ...], ...]


def limit(case: Case, evidence: Evidence, *, model_is_known: bool) -> Step:
    """How far the point is from what its silicon could do; says so where that cannot be said."""
    title = "How far is that from physics?"
    point, model = case.point, evidence.model
    same = model_is_known or model.name in (point.model or "").lower()
    found = (
        distance_of_point(point, case.accelerator, model, evidence.catalogue.physics())
        if same
        else None
    )
    if found is None:
        return Step(
            title=title,
            text=(
                (
                    "Not computed: it needs power that is measured, an accelerator of the "
                    "catalogue, output tokens, the interactivity, and the model's config.json "
                    "(--model-config)."
                ),
            ),
        )
    bound = found.limit
    experts = f" touch {bound.coverage_ratio:.0%} of the experts" if model.experts else ""
    rows = [
        (
            "tokens/s of a device",
            f"{point.tok_per_s:,.0f}",
            f"{bound.time_tok_per_s:,.0f}",
            f"{found.time_ratio:.0%} of the limit",
        ),
        (
            f"J per token ({point.power_kind}), calibrated limit",
            f"{point.j_per_token:.4f}",
            "not calibrated" if bound.j_roof_per_token is None else f"{bound.j_roof_per_token:.4f}",
            "" if found.over_roof_ratio is None else f"{found.over_roof_ratio:.1f} times",
        ),
        (
            "J per token, transport and arithmetic alone",
            f"{point.j_per_token:.4f}",
            f"{bound.j_phys_per_token:.4f}",
            f"{found.over_phys_ratio or 0:.1f} times",
        ),
    ]
    return Step(
        title=title,
        text=(
            (
                f"{model.name}: {model.total_params / 1e9:.1f} billion parameters, "
                f"{model.active_params / 1e9:.2f} active; {bound.serving.batch:.0f} sequences"
                f"{experts}; bound by {bound.bound_by}. Memory "
                f"bandwidth is used to {found.mbu_ratio:.0%}, arithmetic to {found.mfu_ratio:.0%}. "
                "The limit is modelled; its energy is good to about 30 %."
            ),
        ),
        grids=(Grid(head=("number", "here", "limit", "distance"), rows=tuple(rows)),),
    )


def side_by_side(case: Case, evidence: Evidence, floor: float) -> Step:
    """Accelerators at one interactivity: measured where there are points, limits elsewhere."""
    grids = []
    measured = _measured_rows(case, evidence, floor)
    if measured:
        grids.append(
            Grid(
                head=(
                    "measured: gpt-oss-120b, vLLM, GPU energy",
                    "tok/s",
                    "J device",
                    "J facility",
                    "tok/s/MW provisioned",
                    "USD per million",
                ),
                rows=measured,
            )
        )
    calibrated, others = _limit_rows(evidence, floor)
    head = ("tok/s", "J device", "tok/s/MW provisioned", "USD per million, owned")
    name = f"{evidence.model.name} 1k/1k"
    if calibrated:
        grids.append(Grid(head=(f"modelled: calibrated limit, {name}", *head), rows=calibrated))
    if others:
        title = f"modelled: time alone, no power limit, {name}"
        grids.append(Grid(head=(title, *head), rows=others))
    return Step(
        title=f"Which accelerator, if each user gets {floor:.0f} tokens/s?",
        text=(
            (
                "Each serves as many users as it can at that rate. Measured points are priced at "
                "this walk's site and tariff. Limits say what silicon allows, not what an engine "
                "reaches; those bound by time alone are flattered and not to be compared with the "
                "calibrated ones."
            ),
            *_answer(measured, calibrated),
        ),
        grids=tuple(grids),
    )


def _answer(measured: Rows, calibrated: Rows) -> tuple[str, ...]:
    """Who takes the fewest joules and dollars, of each table; both come sorted by one of them."""
    said = []
    if len(measured) > 1:
        said.append(f"Fewest measured joules: {measured[0][0]}, {measured[0][2]} J at the device.")
    if calibrated:
        joules = min(calibrated, key=lambda row: float(row[2]))
        said.append(
            f"By physics, fewest joules: {joules[0]}; fewest dollars to an owner: "
            f"{calibrated[0][0]}."
        )
    return tuple(said)


def _measured_rows(case: Case, evidence: Evidence, floor: float) -> Rows:
    rows = []
    for key, best_point in best_measured(evidence, floor).items():
        other = priced(case, evidence, best_point)
        result = other.result
        provisioned = result.provisioned_tok_per_s_per_mw
        rows.append(
            (
                f"{key}, {counted(best_point.devices, 'device')}, batch {best_point.batch:.0f}",
                f"{other.inputs.tok_per_s:,.0f}",
                f"{result.device_j_per_token:.4f}",
                f"{result.facility_j_per_token:.4f}",
                "not available" if provisioned is None else f"{provisioned:,.0f}",
                "not available"
                if result.total_usd_per_mtok is None
                else f"{result.total_usd_per_mtok:.4f}",
            )
        )
    return tuple(rows)


def best_measured(evidence: Evidence, floor: float) -> dict[str, MeasuredPoint]:
    """Accelerator to its published point of fewest joules at that interactivity, best first."""
    found: dict[str, MeasuredPoint] = {}
    for one in evidence.measured:
        best_so_far = found.get(one.accelerator)
        if 1e3 / one.median_itl_ms < floor:
            continue
        if best_so_far is None or one.j_per_token < best_so_far.j_per_token:
            found[one.accelerator] = one
    return dict(sorted(found.items(), key=lambda item: item[1].j_per_token))


def priced(case: Case, evidence: Evidence, measured: MeasuredPoint) -> Case:
    """A published point at this case's site, with its shared assumptions."""
    shared = ("utilisation_ratio", "usd_per_kwh", "demand_usd_per_kw_month", "pue", "fan_ratio")
    point = of_published(
        measured, evidence.catalogue.sources["mlenergy-v3"], input_tokens=ASSUMED_TOKENS
    )
    choice = Choice(
        site=case.site.key,
        price_basis=case.rate_basis if case.rate_basis in MARKET else "owned",
        given={name: case.figures[name] for name in shared},
    )
    return build(evidence.catalogue, point, choice)


def _limit_rows(evidence: Evidence, floor: float) -> tuple[Rows, Rows]:
    """Calibrated and not, each the cheapest first."""
    catalogue = evidence.catalogue
    basis = catalogue.power_basis(OWNED_SOURCE)
    found: list[tuple[float, bool, tuple[str, ...]]] = []
    for key, kw in basis.kw.items():
        price = catalogue.price(key, "owned", source=OWNED_SOURCE)
        if price is None:
            continue
        silicon = device(catalogue.accelerator(key))
        limits = frontier(
            evidence.model, silicon, natural(evidence.model, Serving(batch=1)), catalogue.physics()
        )
        bound = best(limits, interactivity_tok_per_s=floor)
        if bound is None:
            continue
        per_mtok = cost.usd_per_mtok(price.per_hour.value, bound.tok_per_s)
        energy = bound.j_roof_per_token
        found.append(
            (
                per_mtok,
                energy is None,
                (
                    f"{key}, {counted(bound.serving.devices, 'device')}, {bound.serving.sharing}",
                    f"{bound.tok_per_s:,.0f}",
                    "not calibrated" if energy is None else f"{energy:.4f}",
                    f"{cost.provisioned_tok_per_s_per_mw(bound.tok_per_s, kw.value * 1e3):,.0f}",
                    f"{per_mtok:.4f}" + (" (unverified)" if price.per_hour.unverified else ""),
                ),
            )
        )
    found.sort()
    return (
        tuple(row for _, bare, row in found if not bare),
        tuple(row for _, bare, row in found if bare),
    )
