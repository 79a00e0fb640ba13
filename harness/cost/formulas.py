"""The cost formulas F1 to F12, one small function each, refusing nonsense by name and limit."""

from __future__ import annotations

import math
from typing import Final

from harness.errors import ConfigError

JOULES_PER_KWH: Final = 3.6e6
HOURS_PER_YEAR: Final = 8760.0
MONTHS_PER_YEAR: Final = 12
SECONDS_PER_HOUR: Final = 3600.0
ENDPOINTS_OVERHEAD_RATIO: Final = {"liquid": 0.30, "air": 0.50}
"""
What MLPerf Endpoints adds to the sum of TDPs, by cooling.

Source: `docs.mlcommons.org/endpoints-submission-docs/reference/system-power-json`, 2026-10.
"""


def require(
    name: str,
    value: float,
    *,
    low: float = 0.0,
    high: float = math.inf,
    above: bool = False,
    remedy: str = "give a value in that range",
) -> float:
    """
    Refuse a number outside its range; *above* excludes the lower limit itself.

    Raises:
        ConfigError: not finite, or outside; the message names the value and the limit.
    """
    too_low = value <= low if above else value < low
    if not math.isfinite(value) or too_low or value > high:
        limit = f"more than {low:g}" if above else f"at least {low:g}"
        if math.isfinite(high):
            limit += f" and at most {high:g}"
        raise ConfigError(f"{name} is {value:g}; it must be finite and {limit}", remedy=remedy)
    return value


def j_per_token(energy_j: float, tokens: float) -> float:
    """F1: energy of a window over the tokens counted in it, at the energy's own boundary."""
    require("energy_j", energy_j)
    return energy_j / require("tokens", tokens, above=True)


def mean_other_w(
    other_active_w: float, *, utilisation_ratio: float, load_independent_ratio: float
) -> float:
    """F2: the host's mean power, part of which does not follow the load."""
    serving = require("utilisation_ratio", utilisation_ratio, high=1.0, above=True)
    fixed = require("load_independent_ratio", load_independent_ratio, high=1.0)
    return require("other_active_w", other_active_w) * (fixed + (1 - fixed) * serving)


def it_w(
    device_w: float,
    idle_w: float,
    other_active_w: float,
    *,
    utilisation_ratio: float,
    load_independent_ratio: float,
) -> float:
    """
    F2: mean IT power of one accelerator and its share of the host, in watts.

    Args:
        device_w: board power while serving.
        idle_w: board power with the engine loaded and no request.
        other_active_w: host, NIC, switch, fans and supply losses while serving.
        utilisation_ratio: share of the wall clock spent serving.
        load_independent_ratio: share of *other_active_w* that does not follow the load.
    """
    serving = require("utilisation_ratio", utilisation_ratio, high=1.0, above=True)
    board = serving * require("device_w", device_w) + (1 - serving) * require("idle_w", idle_w)
    return board + mean_other_w(
        other_active_w,
        utilisation_ratio=utilisation_ratio,
        load_independent_ratio=load_independent_ratio,
    )


def other_from_wall_w(wall_w: float, device_w: float) -> float:
    """
    F2, first choice: what a wall meter sees beyond the accelerators, in watts.

    Raises:
        ConfigError: the wall reads less than the boards alone.
    """
    return (
        require("wall_w", wall_w, low=device_w, remedy="check that both cover the same") - device_w
    )


def other_from_parts_w(
    parts_w: float, fans_w: float, device_w: float, *, psu_efficiency_ratio: float
) -> float:
    """F2, second choice: RAPL and fans, plus what the supply loses over all of it, in watts."""
    efficiency = require("psu_efficiency_ratio", psu_efficiency_ratio, high=1.0, above=True)
    load = require("parts_w", parts_w) + require("fans_w", fans_w) + device_w
    return load / efficiency - device_w


def other_from_nameplate_w(all_in_w: float, tdp_w: float, *, drawn_ratio: float = 1.0) -> float:
    """F2, last choice: all-in power less TDP, times the share of the nameplate that is drawn."""
    require("all_in_w", all_in_w, low=tdp_w, remedy="give IT power per accelerator, host included")
    return (all_in_w - tdp_w) * require("drawn_ratio", drawn_ratio, high=1.0)


def itue(fan_ratio: float, psu_efficiency_ratio: float) -> float:
    """F3: IT power over what computes: server fans and supply losses taken out."""
    require("fan_ratio", fan_ratio, high=0.99)
    require("psu_efficiency_ratio", psu_efficiency_ratio, high=1.0, above=True)
    useful = psu_efficiency_ratio - fan_ratio
    return 1.0 / require("psu_efficiency_ratio less fan_ratio", useful, above=True)


def tue(itue_ratio: float, pue: float) -> float:
    """F3: facility power over what computes; unlike PUE it shows what liquid cooling saves."""
    return require("itue", itue_ratio, low=1.0) * require("pue", pue, low=1.0)


def effective_usd_per_kwh(
    usd_per_kwh: float, demand_usd_per_kw_month: float, load_factor_ratio: float
) -> float:
    """F5: the delivered price with the demand charge spread over the hours it is paid for."""
    price = require("usd_per_kwh", usd_per_kwh)
    demand = require("demand_usd_per_kw_month", demand_usd_per_kw_month)
    if demand == 0:
        return price
    factor = require("load_factor_ratio", load_factor_ratio, above=True)
    return price + demand * MONTHS_PER_YEAR / (HOURS_PER_YEAR * factor)


def energy_usd_per_mtok(j_per_token: float, usd_per_kwh: float, *, pue: float = 1.0) -> float:
    """
    F5: what the energy of a million tokens costs.

    Args:
        j_per_token: joules per token at the boundary that *pue* multiplies.
        usd_per_kwh: delivered price, demand charges included.
        pue: facility power over IT power; 1 leaves the boundary as it is.

    Returns:
        US dollars per million tokens, energy only.

    Raises:
        ConfigError: a negative or non-finite input, or a PUE under 1.

    >>> round(energy_usd_per_mtok(0.36, 0.10, pue=1.5), 4)
    0.015
    """
    energy_kwh = require("j_per_token", j_per_token) * 1e6 / JOULES_PER_KWH
    return energy_kwh * require("usd_per_kwh", usd_per_kwh) * require("pue", pue, low=1.0)


def capital_recovery_ratio(interest_ratio: float, years: float) -> float:
    """F6: the yearly payment that returns one dollar with interest over *years*."""
    require("years", years, above=True)
    require("interest_ratio", interest_ratio, high=1.0)
    # r / (1 - (1 + r)^-n), in a form that does not cancel at small interest.
    shrunk = -math.expm1(-years * math.log1p(interest_ratio))
    # Below, both are subnormal and their quotient is noise; the limit is 1 / n.
    negligible = 1e-300
    return 1.0 / years if shrunk < negligible else interest_ratio / shrunk


def facility_usd_per_hour(
    all_in_w: float, usd_per_w: float, *, wacc_ratio: float, life_y: float
) -> float:
    """F6: an hour of the building made for the watts: provisioned power, used or not."""
    capital = require("all_in_w", all_in_w) * require("facility_usd_per_w", usd_per_w)
    return capital * capital_recovery_ratio(wacc_ratio, life_y) / HOURS_PER_YEAR


def server_usd_per_hour(
    purchase_usd: float, *, wacc_ratio: float, life_y: float, resale_usd: float = 0.0
) -> float:
    """F7: an hour of a bought server; what it sells for at the end is discounted to today."""
    require("resale_usd", resale_usd, high=require("purchase_usd", purchase_usd))
    discount: float = (1 + wacc_ratio) ** life_y
    net = purchase_usd - resale_usd / discount
    return net * capital_recovery_ratio(wacc_ratio, life_y) / HOURS_PER_YEAR


def opex_usd_per_hour(all_in_w: float, opex_usd_per_w_y: float) -> float:
    """F7: an hour of running the building, energy apart."""
    return (
        require("all_in_w", all_in_w)
        * require("opex_usd_per_w_y", opex_usd_per_w_y)
        / (HOURS_PER_YEAR)
    )


def usd_per_mtok(usd_per_hour: float, tok_per_s: float, *, utilisation_ratio: float = 1.0) -> float:
    """
    F8: an hour's price over the tokens of that hour.

    >>> round(usd_per_mtok(1.30, 4170.9), 4)
    0.0866
    """
    rate = require("tok_per_s", tok_per_s, above=True)
    busy = require("utilisation_ratio", utilisation_ratio, high=1.0, above=True)
    return require("usd_per_hour", usd_per_hour) * 1e6 / (SECONDS_PER_HOUR * rate * busy)


def consumed_tok_per_s_per_mw(j_per_token: float) -> float:
    """F9: tokens a second for each megawatt drawn, at the boundary of *j_per_token*."""
    return 1e6 / require("j_per_token", j_per_token, above=True)


def provisioned_tok_per_s_per_mw(tok_per_s: float, all_in_w: float, *, pue: float = 1.0) -> float:
    """F9: tokens a second for each megawatt of supply reserved; pue 1 if *all_in_w* holds it."""
    supply_w = require("all_in_w", all_in_w, above=True) * require("pue", pue, low=1.0)
    return require("tok_per_s", tok_per_s) * 1e6 / supply_w


def endpoints_nameplate_w(tdp_sum_w: float, cooling: str) -> float:
    """F9, MLPerf Endpoints: TDPs of CPUs, accelerators and switches, plus its flat overhead."""
    if cooling not in ENDPOINTS_OVERHEAD_RATIO:
        raise ConfigError(
            f"there is no overhead for cooling {cooling!r}",
            remedy=f"choose one of: {', '.join(ENDPOINTS_OVERHEAD_RATIO)}",
        )
    return require("tdp_sum_w", tdp_sum_w, above=True) * (1 + ENDPOINTS_OVERHEAD_RATIO[cooling])


def water_l_per_mtok(
    it_j_per_token: float,
    facility_j_per_token: float,
    *,
    wue_l_per_kwh: float,
    grid_l_per_kwh: float,
) -> float:
    """F10: water evaporated on site (per IT kWh) and at the power stations (per facility kWh)."""
    site = require("it_j_per_token", it_j_per_token) * require("wue_l_per_kwh", wue_l_per_kwh)
    grid = require("facility_j_per_token", facility_j_per_token) * require(
        "grid_l_per_kwh", grid_l_per_kwh
    )
    return (site + grid) * 1e6 / JOULES_PER_KWH


def carbon_g_per_mtok(facility_j_per_token: float, carbon_kg_per_kwh: float) -> float:
    """F10: grams of CO2 equivalent of the electricity, location-based; making it is not in."""
    energy_kwh = require("facility_j_per_token", facility_j_per_token) * 1e6 / JOULES_PER_KWH
    return energy_kwh * require("carbon_kg_per_kwh", carbon_kg_per_kwh) * 1e3


def fleet_tok_per_s(supply_mw: float, facility_j_per_token: float) -> float:
    """F11: what a site limited by its supply can serve."""
    return require("supply_mw", supply_mw) * consumed_tok_per_s_per_mw(facility_j_per_token)


def oversubscribed_w(all_in_w: float, oversubscription_ratio: float) -> float:
    """F12: provisioned power per accelerator where more are installed than nameplates allow."""
    require("oversubscription_ratio", oversubscription_ratio)
    return require("all_in_w", all_in_w) / (1 + oversubscription_ratio)
