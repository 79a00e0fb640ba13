"""The step of the walk that answers what cooling, liquid, tariff, use or newer silicon change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from harness.claims.formulas import Evidence
from harness.cost import formulas as cost
from harness.cost.case import Case, owner_view
from harness.cost.split import CostInputs, Split, split
from harness.errors import ConfigError
from harness.roofline.distance import COMPARABLE

from .comparisons import best_measured, priced
from .parts import Grid, Step

LIQUID_SITE: Final = "hyperscale-dlc"
CHEAP_TARIFF: Final = "iowa"
FULLER_UTILISATION: Final = 0.9


def changes(case: Case, evidence: Evidence, floor: float) -> Step:
    """
    Recompute the cost with one thing changed at a time, the server's price held.

    Args:
        case: as it is.
        evidence: for the sites, tariffs and published points to change to.
        floor: interactivity a newer accelerator has to reach, tokens a second a user.
    """
    inputs, _ = owner_view(case)
    base = split(inputs)
    results: dict[str, Split] = {}
    for title, values in _alternatives(inputs, evidence).items():
        changed = _try(inputs, values)
        if changed is not None:
            results[title] = changed
    newest = next(iter(best_measured(evidence, floor).items()), None)
    told = case.point.power_kind in COMPARABLE
    if (
        told
        and newest is not None
        and (case.accelerator is None or newest[0] != case.accelerator.key)
    ):
        title = f"{newest[0]}, measured by ML.ENERGY at {floor:.0f} tokens/s/user or more"
        results[title] = priced(case, evidence, newest[1]).result
    rows = [_row("as it is", base, base)]
    rows += [_row(title, result, base) for title, result in results.items()]
    return Step(
        title="What would change it?",
        text=(
            (
                "One change at a time, the server's price held. Under a rental the saving is the "
                "owner's; the renter's price stands still."
            ),
            _answer(results, base),
        ),
        grids=(
            Grid(
                head=("change", "USD per million", "change", "J facility", "change"),
                rows=tuple(rows),
            ),
        ),
    )


def with_fans(inputs: CostInputs, fan_ratio: float) -> CostInputs:
    """
    The same servers with other fans: what computes draws the same, IT power shrinks or grows.

    Raises:
        ConfigError: the host has not that much power to give up.
    """
    if inputs.other_active_w is None:
        return replace(inputs, fan_ratio=fan_ratio)
    it_w = cost.it_w(
        inputs.device_w,
        inputs.idle_w,
        inputs.other_active_w,
        utilisation_ratio=inputs.utilisation_ratio,
        load_independent_ratio=inputs.load_independent_ratio,
    )
    mean_share = cost.mean_other_w(
        1.0,
        utilisation_ratio=inputs.utilisation_ratio,
        load_independent_ratio=inputs.load_independent_ratio,
    )
    saved_w = it_w * (1 - (1 - inputs.fan_ratio) / (1 - fan_ratio))
    host_w = cost.require(
        "host power without its fans", inputs.other_active_w - saved_w / mean_share
    )
    return replace(inputs, fan_ratio=fan_ratio, other_active_w=host_w)


def _alternatives(inputs: CostInputs, evidence: Evidence) -> dict[str, Mapping[str, float]]:
    liquid = evidence.catalogue.sites[LIQUID_SITE].figures
    tariff = evidence.catalogue.tariffs[CHEAP_TARIFF]
    cheap = tariff.figures["usd_per_kwh"].value
    return {
        "no cooling at all, the most that cutting it could save": {
            "pue": 1 + inputs.electrical_loss_ratio,
            "fan_ratio": 0.0,
        },
        f"direct liquid cooling, PUE {liquid['pue'].value:g}": {
            name: liquid[name].value for name in ("pue", "fan_ratio", "electrical_loss_ratio")
        },
        f"a cheaper tariff: {tariff.name}, {cheap:g} a kWh": {"usd_per_kwh": cheap},
        f"serving {FULLER_UTILISATION:.0%} of the day": {"utilisation_ratio": FULLER_UTILISATION},
    }


def _try(inputs: CostInputs, values: Mapping[str, Any]) -> Split | None:
    plain = {name: value for name, value in values.items() if name != "fan_ratio"}
    try:
        return split(replace(with_fans(inputs, values.get("fan_ratio", inputs.fan_ratio)), **plain))
    except ConfigError:
        # Such a site cannot be: the host has no such fans, or losses above all overhead.
        return None


def _row(title: str, result: Split, base: Split) -> tuple[str, ...]:
    total, before = result.total_usd_per_mtok, base.total_usd_per_mtok
    return (
        title,
        "not available" if total is None else f"{total:.4f}",
        "" if total is None or not before else f"{total / before - 1:+.1%}",
        f"{result.facility_j_per_token:.4f}",
        f"{result.facility_j_per_token / base.facility_j_per_token - 1:+.1%}",
    )


def _answer(results: Mapping[str, Split], base: Split) -> str:
    by_joules = min(results, key=lambda title: results[title].facility_j_per_token, default=None)
    if by_joules is None:
        return "None of the changes applies here."
    totals = {
        title: result.total_usd_per_mtok
        for title, result in results.items()
        if result.total_usd_per_mtok is not None
    }
    saved = 1 - results[by_joules].facility_j_per_token / base.facility_j_per_token
    text = f"Most joules are saved by: {by_joules} ({saved:.0%} fewer)."
    if totals and base.total_usd_per_mtok:
        by_dollars = min(totals, key=lambda title: totals[title])
        less = 1 - totals[by_dollars] / base.total_usd_per_mtok
        text += f" Most dollars by: {by_dollars} ({less:.0%} less)."
    return text
