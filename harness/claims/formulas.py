"""The formulas a claim is recomputed by, each from named points and the catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.cost import formulas as cost
from harness.cost.catalogue import Catalogue, device, known
from harness.errors import ConfigError
from harness.roofline.bound import Bound, Serving
from harness.roofline.fit import MeasuredPoint
from harness.roofline.model import ModelShape
from harness.roofline.search import best, frontier, natural

REFERENCE_PUE: Final = 1.15
REFERENCE_LOAD_FACTOR: Final = 0.80
REFERENCE_TARIFF: Final = "us-industrial"
REFERENCE_SITE: Final = "ai-liquid"
OWNED_SOURCE: Final = "inferencex-2026-07"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPoint:
    """
    One accelerator's throughput, as published or as the user measured it.

    Args:
        key: its name in the data.
        subject: the model.
        accelerator: key of the catalogue.
        tok_per_s: tokens a second a device, of *basis*.
        basis: `total` or `output`.
        source: key of the source.
        stack: software and date.
        interactivity_tok_per_s: None if not published.
        j_per_token: joules of the device per token of *basis*; None if not measured.
    """

    key: str
    subject: str
    accelerator: str
    tok_per_s: float
    basis: str
    source: str
    stack: str
    interactivity_tok_per_s: float | None = None
    j_per_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that formulas may draw on."""

    catalogue: Catalogue
    points: Mapping[str, ClaimPoint]
    measured: Sequence[MeasuredPoint]
    model: ModelShape

    def point(self, key: str) -> ClaimPoint:
        """One published point."""
        return self.points[known(key, self.points, "claim point")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A number and the line that shows how it came about."""

    value: float
    line: str


Inputs = Mapping[str, Any]


def per_megawatt_ratio(evidence: Evidence, inputs: Inputs) -> Worked:
    """(T/P) of the candidate over (T/P) of the baseline, both powers of one basis."""
    new, old = evidence.point(inputs["candidate"]), evidence.point(inputs["baseline"])
    _same_tokens(new, old)
    basis = inputs["power_basis"]
    new_kw = _kw(evidence, new.accelerator, basis)
    old_kw = _kw(evidence, old.accelerator, basis)
    rates = [
        cost.provisioned_tok_per_s_per_mw(point.tok_per_s, kw * 1e3)
        for point, kw in ((new, new_kw), (old, old_kw))
    ]
    return Worked(
        value=rates[0] / rates[1],
        line=f"({new.tok_per_s:,.1f} / {new_kw:g} kW) / ({old.tok_per_s:,.1f} / {old_kw:g} kW)",
    )


def price_ratio(evidence: Evidence, inputs: Inputs) -> Worked:
    """Dollars per token of the baseline over those of the candidate."""
    new, old = evidence.point(inputs["candidate"]), evidence.point(inputs["baseline"])
    _same_tokens(new, old)
    new_usd, old_usd = inputs["candidate_usd_per_hour"], inputs["baseline_usd_per_hour"]
    ratio = cost.usd_per_mtok(old_usd, old.tok_per_s) / cost.usd_per_mtok(new_usd, new.tok_per_s)
    return Worked(
        value=ratio,
        line=f"({old_usd:g} $/h / {old.tok_per_s:,.1f}) / ({new_usd:g} $/h / {new.tok_per_s:,.1f})",
    )


def usd_per_mtok(evidence: Evidence, inputs: Inputs) -> Worked:
    """Dollars an hour over the tokens of an always busy hour."""
    point = evidence.point(inputs["point"])
    share = inputs.get("output_ratio", 1.0)
    dollars = inputs["usd_per_hour"]
    return Worked(
        value=cost.usd_per_mtok(dollars, point.tok_per_s * share),
        line=f"{dollars:g} $/h / ({point.tok_per_s:,.1f} x {share:g} tok/s x 3600) x 1e6",
    )


def tokens_per_joule_ratio(evidence: Evidence, inputs: Inputs) -> Worked:
    """Least measured joules of the baseline over the candidate's, both within the gap's cap."""
    cap_ms = float(inputs.get("itl_cap_ms", math.inf))
    joules = [
        _least_joules(evidence, inputs[side], cap_ms, inputs.get(f"{side}_joules"))
        for side in ("candidate_accelerator", "baseline_accelerator")
    ]
    return Worked(
        value=joules[1] / joules[0],
        line=f"{joules[1]:.4f} J / {joules[0]:.4f} J per output token",
    )


def limit_per_megawatt_ratio(evidence: Evidence, inputs: Inputs) -> Worked:
    """Ratio of the physical limits per provisioned megawatt, at one interactivity."""
    basis = inputs["power_basis"]
    return _limit_ratio(
        evidence, inputs, lambda accelerator: _kw(evidence, accelerator, basis), "kW"
    )


def limit_price_ratio(evidence: Evidence, inputs: Inputs) -> Worked:
    """Ratio of the physical limits per dollar of owning, at one interactivity."""
    return _limit_ratio(evidence, inputs, lambda key: _owned_usd(evidence, key), "$/h")


def power_share_least(evidence: Evidence, inputs: Inputs) -> Worked:
    """The least share, over all accelerators with a price and an all-in power."""
    return _share(evidence, inputs["part"], min)


def power_share_most(evidence: Evidence, inputs: Inputs) -> Worked:
    """The greatest share, over the same."""
    return _share(evidence, inputs["part"], max)


def quotient(evidence: Evidence, inputs: Inputs) -> Worked:
    """One published number over another."""
    del evidence
    top, bottom = inputs["numerator"], inputs["denominator"]
    return Worked(value=top / bottom, line=f"{top:g} / {bottom:g}")


def product(evidence: Evidence, inputs: Inputs) -> Worked:
    """Published numbers multiplied."""
    del evidence
    factors = inputs["factors"]
    return Worked(value=float(math.prod(factors)), line=" x ".join(f"{one:g}" for one in factors))


def owning_shares(catalogue: Catalogue) -> dict[str, tuple[float, float]]:
    """
    Accelerator to (electricity, electricity and facility) as shares of the cost of owning.

    At nameplate all-in power, PUE 1.15, 80 % mean load, the US industrial price.
    """
    site = catalogue.sites[REFERENCE_SITE].figures
    price = catalogue.tariffs[REFERENCE_TARIFF].figures["usd_per_kwh"].value
    shares = {}
    for key, kw in catalogue.power_basis(OWNED_SOURCE).kw.items():
        owned = catalogue.price(key, "owned", source=OWNED_SOURCE)
        if owned is None:
            continue
        electricity = kw.value * REFERENCE_LOAD_FACTOR * REFERENCE_PUE * price
        facility = cost.facility_usd_per_hour(
            kw.value * 1e3,
            site["facility_usd_per_w"].value,
            wacc_ratio=site["wacc_ratio"].value,
            life_y=site["facility_life_y"].value,
        )
        per_hour = owned.per_hour.value
        shares[key] = (electricity / per_hour, (electricity + facility) / per_hour)
    return shares


def _share(
    evidence: Evidence, part: str, pick: Callable[[Sequence[tuple[float, str]]], tuple[float, str]]
) -> Worked:
    column = 0 if part == "electricity" else 1
    rows = [(both[column], key) for key, both in owning_shares(evidence.catalogue).items()]
    value, key = pick(rows)
    return Worked(value=value, line=f"{key}, of {len(rows)} accelerators")


def _limit_ratio(
    evidence: Evidence, inputs: Inputs, weight: Callable[[str], float], unit: str
) -> Worked:
    floor = inputs["interactivity_tok_per_s"]
    rates, weights = [], []
    for side in ("candidate_accelerator", "baseline_accelerator"):
        limit = limit_at(evidence, inputs[side], floor)
        if limit is None:
            raise ConfigError(
                f"{inputs[side]} cannot serve {floor:g} tok/s/user at all",
                remedy="choose a lower interactivity",
            )
        rates.append(limit.tok_per_s)
        weights.append(weight(inputs[side]))
    sides = [f"({rate:,.0f} / {by:g} {unit})" for rate, by in zip(rates, weights, strict=True)]
    return Worked(value=(rates[0] / weights[0]) / (rates[1] / weights[1]), line=" / ".join(sides))


def limit_at(evidence: Evidence, accelerator: str, interactivity_tok_per_s: float) -> Bound | None:
    """The best limit of an accelerator at 1k/1k where each user still gets that rate."""
    limits = frontier(
        evidence.model,
        device(evidence.catalogue.accelerator(accelerator)),
        natural(evidence.model, Serving(batch=1)),
        evidence.catalogue.physics(),
    )
    return best(limits, interactivity_tok_per_s=interactivity_tok_per_s)


def _least_joules(evidence: Evidence, accelerator: str, cap_ms: float, own: float | None) -> float:
    if own is not None:
        return own
    fitting = [
        point.j_per_token
        for point in evidence.measured
        if point.accelerator == accelerator and point.median_itl_ms <= cap_ms
    ]
    if not fitting:
        raise ConfigError(
            f"no measured point of {accelerator} has a gap of {cap_ms:g} ms or less",
            remedy="choose a longer gap",
        )
    return min(fitting)


def _kw(evidence: Evidence, accelerator: str, basis: str) -> float:
    figure = evidence.catalogue.all_in_kw(accelerator, basis)
    if figure is None:
        raise ConfigError(
            f"power basis {basis} has no {accelerator}",
            remedy="choose another basis for both sides: two bases are never mixed",
        )
    return figure.value


def _owned_usd(evidence: Evidence, accelerator: str) -> float:
    price = evidence.catalogue.price(accelerator, "owned", source=OWNED_SOURCE)
    if price is None:
        raise ConfigError(f"{accelerator} has no price of owning", remedy="add one")
    return price.per_hour.value


def _same_tokens(new: ClaimPoint, old: ClaimPoint) -> None:
    if new.basis != old.basis:
        raise ConfigError(
            f"{new.key} counts {new.basis} tokens, {old.key} counts {old.basis}",
            remedy="compare points of one token basis",
        )


FORMULAS: Final[Mapping[str, Callable[[Evidence, Inputs], Worked]]] = {
    "per_megawatt_ratio": per_megawatt_ratio,
    "price_ratio": price_ratio,
    "usd_per_mtok": usd_per_mtok,
    "tokens_per_joule_ratio": tokens_per_joule_ratio,
    "limit_per_megawatt_ratio": limit_per_megawatt_ratio,
    "limit_price_ratio": limit_price_ratio,
    "power_share_least": power_share_least,
    "power_share_most": power_share_most,
    "quotient": quotient,
    "product": product,
}
"""Name in the data to formula."""
