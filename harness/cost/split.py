"""Splits the cost of a million tokens into named parts that sum to the whole, nothing hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.errors import ConfigError
from harness.record import Finding

from . import formulas as cost

PARTS: Final = (
    "it_energy_usd_per_mtok",
    "cooling_usd_per_mtok",
    "electrical_loss_usd_per_mtok",
    "facility_usd_per_mtok",
    "opex_usd_per_mtok",
    "server_usd_per_mtok",
)
"""The parts of `total_usd_per_mtok`, in the order a picture shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostInputs:
    """
    All a cost depends on, for one accelerator at one operating point.

    Args:
        tok_per_s: tokens a second while serving, of the basis the answer is wanted in.
        device_w: mean board power while serving.
        idle_w: board power, engine loaded, no request.
        utilisation_ratio: share of the wall clock spent serving, above 0.
        other_active_w: host, NIC, switch, fans, supply losses per accelerator while serving;
            None leaves them out, with a Finding.
        load_independent_ratio: share of other_active_w that does not follow the load.
        all_in_w: provisioned IT power per accelerator; None leaves facility and opex out.
        pue: facility over IT power.
        fan_ratio: server fans, share of IT power; counted as cooling.
        electrical_loss_ratio: transformer, UPS, distribution, share of IT power; part of pue - 1.
        psu_efficiency_ratio: of the server's supply; for ITUE only, the loss is inside IT power.
        usd_per_kwh: delivered price.
        demand_usd_per_kw_month: charged on provisioned power; 0 if the price holds it.
        facility_usd_per_w: building and plant per watt of IT.
        facility_life_y: over which that is paid.
        wacc_ratio: yearly cost of capital.
        opex_usd_per_w_y: staff, maintenance, tax per provisioned watt.
        rate_usd_per_hour: price of an accelerator-hour; None leaves server and total out.
        rate_includes_power: the rate already pays for power and facility (what the market quotes).
        wue_l_per_kwh: water on site per IT kWh.
        grid_l_per_kwh: water at the power station per kWh; None leaves water out.
        carbon_kg_per_kwh: of the grid; None leaves carbon out.
    """

    tok_per_s: float
    device_w: float
    idle_w: float
    utilisation_ratio: float
    other_active_w: float | None
    load_independent_ratio: float
    all_in_w: float | None
    pue: float
    fan_ratio: float
    electrical_loss_ratio: float
    psu_efficiency_ratio: float
    usd_per_kwh: float
    demand_usd_per_kw_month: float
    facility_usd_per_w: float
    facility_life_y: float
    wacc_ratio: float
    opex_usd_per_w_y: float
    rate_usd_per_hour: float | None
    rate_includes_power: bool
    wue_l_per_kwh: float
    grid_l_per_kwh: float | None
    carbon_kg_per_kwh: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """
    A cost with every intermediate; dollars are per million tokens of the inputs' basis.

    Args:
        device_j_per_token: board energy while serving, over tokens: what a meter sees.
        idle_j_per_token: board energy between the servings, over the same tokens.
        other_j_per_token: host, NIC, switch, fans and supply losses; None if left out.
        it_j_per_token: the sum of those above that are known.
        facility_j_per_token: that times PUE.
        it_w: mean IT power per accelerator.
        load_factor_ratio: it_w over provisioned power; None without all-in power.
        usd_per_kwh: effective price, demand charges spread in.
        itue: IT power over computing power.
        tue: facility power over computing power.
        it_energy_usd_per_mtok: energy of IT less its fans.
        cooling_usd_per_mtok: server fans and the plant.
        electrical_loss_usd_per_mtok: between meter and server.
        facility_usd_per_mtok: building and plant for the provisioned watts.
        opex_usd_per_mtok: running them, energy apart.
        server_usd_per_mtok: server, network, and what the rate holds beyond the other parts.
        total_usd_per_mtok: the sum of the six.
        power_linked_usd_per_mtok: the first four: what would shrink with the watts.
        consumed_tok_per_s_per_mw: from drawn facility power.
        provisioned_tok_per_s_per_mw: from reserved supply, at full load.
        water_l_per_mtok: on site and at the power station.
        carbon_g_per_mtok: of the electricity.
        findings: what is missing or odd.
    """

    device_j_per_token: float
    idle_j_per_token: float
    other_j_per_token: float | None
    it_j_per_token: float
    facility_j_per_token: float
    it_w: float
    load_factor_ratio: float | None
    usd_per_kwh: float
    itue: float
    tue: float
    it_energy_usd_per_mtok: float
    cooling_usd_per_mtok: float
    electrical_loss_usd_per_mtok: float
    facility_usd_per_mtok: float | None
    opex_usd_per_mtok: float | None
    server_usd_per_mtok: float | None
    total_usd_per_mtok: float | None
    power_linked_usd_per_mtok: float | None
    consumed_tok_per_s_per_mw: float
    provisioned_tok_per_s_per_mw: float | None
    water_l_per_mtok: float | None
    carbon_g_per_mtok: float | None
    findings: tuple[Finding, ...] = ()

    @property
    def electricity_usd_per_mtok(self) -> float:
        """Energy, cooling and electrical loss: the electricity bill."""
        bill = (self.it_energy_usd_per_mtok, self.cooling_usd_per_mtok)
        return sum(bill) + self.electrical_loss_usd_per_mtok

    def share_ratio(self, part: str) -> float | None:
        """One part over the total; None where either is missing."""
        value: float | None = getattr(self, part)
        if value is None or self.total_usd_per_mtok is None:
            return None
        return value / self.total_usd_per_mtok


def split(inputs: CostInputs) -> Split:
    """
    Compute the cost of a million tokens and each of its parts (F2 to F10).

    Returns:
        The split; what cannot be had is None, with a Finding that says what to give.

    Raises:
        ConfigError: an input outside its range.
    """
    overhead = cost.require("pue", inputs.pue, low=1.0) - 1
    loss = cost.require("electrical_loss_ratio", inputs.electrical_loss_ratio)
    # Compared with room for rounding: 1.05 - 1 is less than 0.05 in binary.
    if loss > overhead + 1e-12:
        raise ConfigError(
            f"electrical_loss_ratio is {loss:g}, more than all overhead of PUE {inputs.pue:g}",
            remedy=f"give at most {overhead:.3g}, or a higher PUE",
        )
    itue = cost.itue(inputs.fan_ratio, inputs.psu_efficiency_ratio)
    busy = inputs.utilisation_ratio
    it_w = cost.it_w(
        inputs.device_w,
        inputs.idle_w,
        inputs.other_active_w or 0.0,
        utilisation_ratio=busy,
        load_independent_ratio=inputs.load_independent_ratio,
    )
    tokens_per_s = cost.require("tok_per_s", inputs.tok_per_s, above=True) * busy
    it_j = it_w / tokens_per_s
    facility_j = it_j * inputs.pue
    load_factor = _load_factor(inputs, it_w)
    price = cost.effective_usd_per_kwh(
        inputs.usd_per_kwh, inputs.demand_usd_per_kw_month, load_factor or 1.0
    )
    it_usd = cost.energy_usd_per_mtok(it_j, price)
    parts: dict[str, float | None] = {
        "it_energy_usd_per_mtok": it_usd * (1 - inputs.fan_ratio),
        "cooling_usd_per_mtok": it_usd * (inputs.fan_ratio + overhead - loss),
        "electrical_loss_usd_per_mtok": it_usd * loss,
    }
    parts |= _capital(inputs)
    parts["server_usd_per_mtok"] = _server(inputs, parts)
    device_j = inputs.device_w / inputs.tok_per_s
    idle_j = (1 - busy) * inputs.idle_w / tokens_per_s
    return Split(
        device_j_per_token=device_j,
        idle_j_per_token=idle_j,
        other_j_per_token=None
        if inputs.other_active_w is None
        else cost.mean_other_w(
            inputs.other_active_w,
            utilisation_ratio=busy,
            load_independent_ratio=inputs.load_independent_ratio,
        )
        / tokens_per_s,
        it_j_per_token=it_j,
        facility_j_per_token=facility_j,
        it_w=it_w,
        load_factor_ratio=load_factor,
        usd_per_kwh=price,
        itue=itue,
        tue=cost.tue(itue, inputs.pue),
        **parts,  # type: ignore[arg-type]  # the first three are never None
        total_usd_per_mtok=_sum(parts, PARTS),
        power_linked_usd_per_mtok=_sum(parts, PARTS[:4]),
        consumed_tok_per_s_per_mw=cost.consumed_tok_per_s_per_mw(facility_j),
        provisioned_tok_per_s_per_mw=None
        if inputs.all_in_w is None
        else cost.provisioned_tok_per_s_per_mw(inputs.tok_per_s, inputs.all_in_w, pue=inputs.pue),
        water_l_per_mtok=None
        if inputs.grid_l_per_kwh is None
        else cost.water_l_per_mtok(
            it_j,
            facility_j,
            wue_l_per_kwh=inputs.wue_l_per_kwh,
            grid_l_per_kwh=inputs.grid_l_per_kwh,
        ),
        carbon_g_per_mtok=None
        if inputs.carbon_kg_per_kwh is None
        else cost.carbon_g_per_mtok(facility_j, inputs.carbon_kg_per_kwh),
        findings=_findings(inputs, it_w, parts["server_usd_per_mtok"]),
    )


def _sum(parts: dict[str, float | None], names: tuple[str, ...]) -> float | None:
    values = [value for name in names if (value := parts[name]) is not None]
    return sum(values) if len(values) == len(names) else None


def _load_factor(inputs: CostInputs, it_w: float) -> float | None:
    if inputs.all_in_w is not None:
        return it_w / cost.require("all_in_w", inputs.all_in_w, above=True)
    if inputs.demand_usd_per_kw_month > 0:
        raise ConfigError(
            "a demand charge needs the provisioned power it is charged on",
            remedy="give the all-in power per accelerator, or a demand charge of 0",
        )
    return None


def _capital(inputs: CostInputs) -> dict[str, float | None]:
    if inputs.all_in_w is None:
        return {"facility_usd_per_mtok": None, "opex_usd_per_mtok": None}
    facility = cost.facility_usd_per_hour(
        inputs.all_in_w,
        inputs.facility_usd_per_w,
        wacc_ratio=inputs.wacc_ratio,
        life_y=inputs.facility_life_y,
    )
    opex = cost.opex_usd_per_hour(inputs.all_in_w, inputs.opex_usd_per_w_y)
    busy = inputs.utilisation_ratio
    return {
        "facility_usd_per_mtok": cost.usd_per_mtok(
            facility, inputs.tok_per_s, utilisation_ratio=busy
        ),
        "opex_usd_per_mtok": cost.usd_per_mtok(opex, inputs.tok_per_s, utilisation_ratio=busy),
    }


def _server(inputs: CostInputs, parts: dict[str, float | None]) -> float | None:
    if inputs.rate_usd_per_hour is None:
        return None
    rate = cost.usd_per_mtok(
        inputs.rate_usd_per_hour, inputs.tok_per_s, utilisation_ratio=inputs.utilisation_ratio
    )
    if not inputs.rate_includes_power:
        return rate
    others = _sum(parts, PARTS[:-1])
    return None if others is None else rate - others


def _findings(inputs: CostInputs, it_w: float, server: float | None) -> tuple[Finding, ...]:
    all_in_w = inputs.all_in_w
    said = {
        "host_left_out": inputs.other_active_w is None
        and "no power of the host is known: joules are of the metered devices alone",
        "no_all_in_power": all_in_w is None
        and "no all-in power: facility and opex are left out; "
        "give it, or a power basis that has it",
        "above_all_in_power": all_in_w is not None
        and it_w > all_in_w
        and f"IT draws {it_w:.0f} W a device, {all_in_w:.0f} W are provisioned",
        "no_price": inputs.rate_usd_per_hour is None
        and "no price of an accelerator-hour: no server cost and no total",
        "rate_below_cost": server is not None
        and server < 0
        and "the rate is below energy, facility and opex as assumed: server comes out negative",
        "no_grid_water": inputs.grid_l_per_kwh is None and "no water figure for this grid",
        "no_grid_carbon": inputs.carbon_kg_per_kwh is None and "no carbon figure for this grid",
    }
    return tuple(
        Finding(code=code, severity="warning", message=text) for code, text in said.items() if text
    )
