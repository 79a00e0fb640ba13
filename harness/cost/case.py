"""Builds a cost case: a measured point, an accelerator and a site, every input with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.errors import ConfigError
from harness.record import Finding

from .catalogue import Accelerator, Catalogue, Figure, Place, Source, known
from .host import derived, host_power
from .point import Point
from .range import Range
from .rate import Rate, bought, market
from .split import CostInputs, Split, split

POINTS_OWN: Final = {"tok_per_s", "device_w", "rate_includes_power"}
"""Inputs that the point or the price settles; they cannot be given apart from it."""
IT_BASIS: Final = "inferencex-2026-07"
YOURS: Final = Source(
    key="yours", title="given on the command line", where="", date="now", grade="yours"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    What the user picks from the catalogue.

    Args:
        accelerator: key; None takes what the point names, if it names one.
        site: key.
        tariff: key; None keeps the site's price of electricity.
        grid: key, for water and carbon.
        price_basis: `owned`, `rental`, `on-demand`, or `purchase` (bought, power on top).
        power_basis: which set of all-in powers; must be of IT power.
        given: inputs of the model with figures of the user's own, by name; these win.
        price_currency: of a given `rate_usd_per_hour`.
        price_includes_power: whether that rate pays for power and facility already.
    """

    accelerator: str | None = None
    site: str = "ai-liquid"
    tariff: str | None = None
    grid: str = "usa"
    price_basis: str = "owned"
    power_basis: str = IT_BASIS
    given: Mapping[str, Figure] = field(default_factory=dict)
    price_currency: str = "USD"
    price_includes_power: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    Everything a cost was computed from.

    Args:
        point: what was measured.
        accelerator: None if the point is of no accelerator in the catalogue.
        site: where it stands.
        rate_basis: `owned`, `rental`, `on-demand`, `purchase`, `given`, or `none`.
        host_method: how the power beside the accelerator is known.
        inputs: of the model.
        figures: input to where it comes from.
        ranges: input to how far it may be off.
        result: the split.
    """

    point: Point
    accelerator: Accelerator | None
    site: Place
    rate_basis: str
    host_method: str
    inputs: CostInputs
    figures: Mapping[str, Figure]
    ranges: Mapping[str, Range]
    result: Split

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the point and of the split."""
        return (*self.point.findings, *self.result.findings)


def build(catalogue: Catalogue, point: Point, choice: Choice) -> Case:
    """
    Assemble the inputs and compute.

    Raises:
        ConfigError: an unknown key, mixed currencies, mixed power bases, or a value out of range.
    """
    unknown = set(choice.given) - set(CostInputs.__dataclass_fields__) | POINTS_OWN & set(
        choice.given
    )
    if unknown:
        settable = sorted(set(CostInputs.__dataclass_fields__) - POINTS_OWN)
        raise ConfigError(
            f"{', '.join(sorted(unknown))} cannot be given as an input",
            remedy=f"choose of: {', '.join(settable)}",
        )
    key = choice.accelerator or point.accelerator
    accelerator = None if key is None else catalogue.accelerator(key)
    if point.accelerator not in (None, key):
        raise ConfigError(
            f"{point.label} was measured on {point.accelerator}, not on {key}",
            remedy="leave --accelerator out, or give the numbers of that accelerator",
        )
    site = catalogue.sites[known(choice.site, catalogue.sites, "site")]
    figures = _site_figures(catalogue, site, choice)
    figures |= choice.given
    figures["tok_per_s"] = point.figure(point.tok_per_s)
    figures["device_w"] = point.figure(point.device_w, point.device_w_low, point.device_w_high)
    figures |= _idle(figures, catalogue, point, accelerator)
    rate = _rate(figures, catalogue, accelerator, site, choice)
    if rate is not None:
        figures["rate_usd_per_hour"] = rate.per_hour
    if accelerator is not None and "all_in_w" not in figures:
        figures |= _all_in(catalogue, accelerator, choice)
    host_method = host_power(figures, catalogue, point, accelerator)
    names = CostInputs.__dataclass_fields__
    inputs = CostInputs(
        **{name: figures[name].value if name in figures else None for name in names}  # type: ignore[arg-type]
        | {"rate_includes_power": rate is None or rate.includes_power}
    )
    return Case(
        point=point,
        accelerator=accelerator,
        site=site,
        rate_basis="none" if rate is None else rate.basis,
        host_method=host_method,
        inputs=inputs,
        figures=figures,
        ranges={
            name: Range(low=figure.low, high=figure.high)
            for name, figure in figures.items()
            if name in names and figure.low < figure.high
        },
        result=split(inputs),
    )


def owner_view(case: Case) -> tuple[CostInputs, Mapping[str, Range]]:
    """
    The same cost with the server priced apart, so that dearer power makes the total dearer.

    A market rate of owning holds power and facility; taken as fixed, it would hide what they do.
    A renter's rate is fixed indeed: for rental and on-demand nothing changes.

    Returns:
        Inputs and ranges for `intervals`, `tornado` and "what if"; the central split is the same.
    """
    server, rate = case.result.server_usd_per_mtok, case.inputs.rate_usd_per_hour
    if case.rate_basis != "owned" or server is None or rate is None or server < 0:
        return case.inputs, case.ranges
    per_hour = server * case.inputs.tok_per_s * case.inputs.utilisation_ratio * 3600 / 1e6
    ranges = dict(case.ranges)
    if "rate_usd_per_hour" in ranges:
        span = ranges["rate_usd_per_hour"]
        ranges["rate_usd_per_hour"] = Range(
            # Held to the centre, which rounding may leave just outside.
            low=min(max(per_hour + span.low - rate, 0.0), per_hour),
            high=max(per_hour + span.high - rate, per_hour),
        )
    inputs = replace(case.inputs, rate_usd_per_hour=per_hour, rate_includes_power=False)
    return inputs, ranges


def given(value: float) -> Figure:
    """A figure of the user's own."""
    return Figure(value=value, source=YOURS, low=value, high=value)


def _site_figures(catalogue: Catalogue, site: Place, choice: Choice) -> dict[str, Figure]:
    figures = dict(site.figures)
    if choice.tariff is not None:
        figures |= catalogue.tariffs[known(choice.tariff, catalogue.tariffs, "tariff")].figures
    grid = catalogue.grids[known(choice.grid, catalogue.grids, "grid")].figures
    figures |= {name.replace("water_l", "grid_l"): figure for name, figure in grid.items()}
    return figures | {
        name: catalogue.defaults.figures[name]
        for name in ("utilisation_ratio", "load_independent_ratio")
    }


def _idle(
    figures: Mapping[str, Figure],
    catalogue: Catalogue,
    point: Point,
    accelerator: Accelerator | None,
) -> dict[str, Figure]:
    if "idle_w" in figures:
        return {}
    if point.idle_w is not None:
        return {"idle_w": point.figure(point.idle_w)}
    assumed = catalogue.defaults.figures["idle_w"]
    if figures["utilisation_ratio"].value == 1:
        return {"idle_w": derived(0.0, "never idle at a utilisation of 1")}
    if accelerator is None or assumed.value >= point.device_w:
        raise ConfigError(
            f"{point.label} has no idle power, and {assumed.value:g} W is no guess for it",
            remedy="give --idle-w, or --utilisation 1",
        )
    return {"idle_w": assumed}


def _rate(
    figures: Mapping[str, Figure],
    catalogue: Catalogue,
    accelerator: Accelerator | None,
    site: Place,
    choice: Choice,
) -> Rate | None:
    given_rate = figures.get("rate_usd_per_hour")
    if given_rate is not None:
        rate: Rate | None = Rate(
            per_hour=given_rate,
            currency=choice.price_currency,
            includes_power=choice.price_includes_power,
            basis="given",
        )
    elif accelerator is None:
        rate = None
    elif choice.price_basis == "purchase":
        rate = bought(catalogue, accelerator.key, {**site.figures, **figures})
    else:
        rate = market(catalogue, accelerator.key, choice.price_basis)
    if rate is not None and rate.currency != site.currency:
        raise ConfigError(
            f"the price is in {rate.currency}, the site {site.key} in {site.currency}",
            remedy="give both in one currency; nothing is converted",
        )
    return rate


def _all_in(catalogue: Catalogue, accelerator: Accelerator, choice: Choice) -> dict[str, Figure]:
    basis = catalogue.power_basis(choice.power_basis)
    if basis.includes_facility:
        raise ConfigError(
            f"power basis {basis.key} is {basis.meaning}; the split needs IT power",
            remedy=f"choose {IT_BASIS}, or give --all-in-kw",
        )
    kw = basis.kw.get(accelerator.key)
    if kw is None:
        return {}
    watts = kw.value * 1e3
    return {"all_in_w": replace(kw, value=watts, low=watts, high=watts)}
