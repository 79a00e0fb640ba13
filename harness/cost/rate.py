"""The price of an accelerator-hour: from the market's history, or from what it costs to buy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import formulas as cost
from .catalogue import Catalogue, Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """
    What an accelerator-hour costs.

    Args:
        per_hour: in *currency*, with its range.
        currency: three letters.
        includes_power: electricity and facility are paid by it.
        basis: `owned`, `rental`, `on-demand`, `purchase` or `given`.
    """

    per_hour: Figure
    currency: str
    includes_power: bool
    basis: str


def market(catalogue: Catalogue, accelerator: str, basis: str) -> Rate | None:
    """The newest price on that basis, its history as range; None if there is none."""
    price = catalogue.price(accelerator, basis)
    if price is None:
        return None
    alike = (price.accelerator, price.basis, price.buyer, price.currency)
    history = [
        one.per_hour.value
        for one in catalogue.prices
        if (one.accelerator, one.basis, one.buyer, one.currency) == alike
    ]
    return Rate(
        per_hour=replace(price.per_hour, low=min(history), high=max(history)),
        currency=price.currency,
        includes_power=price.includes_power,
        basis=basis,
    )


def bought(catalogue: Catalogue, accelerator: str, figures: Mapping[str, Figure]) -> Rate | None:
    """
    Formula F7 on the catalogue's purchase price; None if there is none.

    Args:
        catalogue: for the purchase.
        accelerator: key.
        figures: `wacc_ratio` and `server_life_y`, whose ends make the range.
    """
    purchase = next((one for one in catalogue.purchases if one.accelerator == accelerator), None)
    if purchase is None:
        return None
    each = purchase.per_unit.value / purchase.accelerators
    wacc, life = figures["wacc_ratio"].value, figures["server_life_y"]

    def hourly(years: float) -> float:
        return cost.server_usd_per_hour(each, wacc_ratio=wacc, life_y=years)

    note = f"{each:,.0f} each over {life.value:g} years; {purchase.per_unit.note}"
    return Rate(
        per_hour=replace(
            purchase.per_unit,
            value=hourly(life.value),
            low=hourly(life.high),
            high=hourly(life.low),
            note=note,
        ),
        currency=purchase.currency,
        includes_power=False,
        basis="purchase",
    )
