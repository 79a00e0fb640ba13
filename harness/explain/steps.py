"""The steps of the walk over one case: joules, dollars, megawatts, doubts, sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.claims.formulas import Evidence, owning_shares
from harness.cost.case import Case, owner_view
from harness.cost.formulas import fleet_tok_per_s
from harness.cost.picture import TITLES
from harness.cost.range import intervals, tornado
from harness.plural import counted

from .parts import Grid, Step

MOST_BARS: Final = 5


def head(case: Case) -> tuple[str, ...]:
    """What is priced, how its power is known, and what a reader must know first."""
    point = case.point
    what = case.accelerator.name if case.accelerator else "a device that is not in the catalogue"
    rate = point.interactivity_tok_per_s
    lines = [
        f"{point.label}: {what}, {counted(point.devices, 'device')}, {point.basis} tokens, "
        + (f"{rate:.1f} tokens/s for each user." if rate else "interactivity not known."),
        (
            f"Power is **{point.power_kind}**, at the boundary `{point.boundary}`; "
            f"the host's: {case.host_method}. Site: {case.site.name}."
        ),
    ]
    lines += [f"{one.severity}: {one.message}." for one in case.findings]
    return tuple(lines)


def joules(case: Case) -> tuple[Step, ...]:
    """From the metered device to the facility's meter: F1 to F3."""
    values, result = case.inputs, case.result
    kind = case.point.power_kind
    host = values.other_active_w
    plant = values.pue - 1 - values.electrical_loss_ratio
    return (
        Step(
            title=f"What does one token draw in the accelerator ({kind})?",
            formula="F1: J per token = watts while serving / tokens per second",
            worked=f"{values.device_w:.1f} W / {values.tok_per_s:,.1f} tok/s "
            f"= {result.device_j_per_token:.4f} J",
            inputs=("device_w", "tok_per_s"),
        ),
        Step(
            title="And in the server around it?",
            text=(
                (
                    "The host draws power beside the accelerator, and both draw some while nobody "
                    f"asks: it serves {values.utilisation_ratio:.0%} of the day. "
                    f"The host's power: {case.host_method}."
                ),
            ),
            formula="F2: W_IT = U x W + (1 - U) x W_idle + W_host x (a + (1 - a) x U); "
            "J_IT = W_IT / (U x tok/s)",
            worked=f"{values.utilisation_ratio:g} x {values.device_w:.1f} + "
            f"{1 - values.utilisation_ratio:.2g} x {_watts(values.idle_w)} + "
            f"{'(unknown, left out)' if host is None else _watts(host)} x "
            f"({values.load_independent_ratio:g} + {1 - values.load_independent_ratio:.2g} x "
            f"{values.utilisation_ratio:g}) = {_watts(result.it_w)} W; "
            f"J_IT = {result.it_j_per_token:.4f} J",
            inputs=(
                "utilisation_ratio",
                "idle_w",
                "other_active_w",
                "tdp_w",
                "nameplate_drawn_ratio",
                "load_independent_ratio",
            ),
        ),
        Step(
            title="And in cooling and power delivery?",
            text=(
                (
                    f"Of each watt of IT, {values.fan_ratio:.0%} turns the server's fans; on top "
                    f"come {plant:.1%} for the cooling plant and a loss of "
                    f"{values.electrical_loss_ratio:.0%} between meter and server. PUE counts the "
                    "fans as IT and so hides what liquid cooling saves there; TUE does not."
                ),
            ),
            formula="F3: J_facility = J_IT x PUE; TUE = ITUE x PUE",
            worked=f"{result.it_j_per_token:.4f} J x {values.pue:g} = "
            f"{result.facility_j_per_token:.4f} J, "
            f"{result.facility_j_per_token / result.device_j_per_token:.2f} times the device's; "
            f"TUE = {result.itue:.3f} x {values.pue:g} = {result.tue:.3f}",
            inputs=("pue", "fan_ratio", "electrical_loss_ratio", "psu_efficiency_ratio"),
        ),
    )


def dollars(case: Case, evidence: Evidence, *, seed: int) -> tuple[Step, ...]:
    """What that costs, and what share of the whole it is: F4 to F8."""
    values, result, currency = case.inputs, case.result, case.site.currency
    inputs, ranges = owner_view(case)
    spans = intervals(inputs, ranges, seed=seed)
    rows = []
    for name, title in (*TITLES.items(), ("total_usd_per_mtok", "total")):
        value, share, span = getattr(result, name), result.share_ratio(name), spans.get(name)
        rows.append(
            (
                title,
                "not available" if value is None else f"{value:.4f}",
                "" if share is None else f"{share:.1%}",
                "" if span is None else f"{span[0]:.4f} to {span[1]:.4f}",
            )
        )
    return (
        Step(
            title="What does the electricity cost?",
            formula="F5: USD per million = J_facility x 1e6 / 3.6e6 x USD per kWh",
            worked=f"{result.facility_j_per_token:.4f} x 1e6 / 3.6e6 x {result.usd_per_kwh:.4f} = "
            f"{result.electricity_usd_per_mtok:.4f} {currency} per million tokens",
            inputs=("usd_per_kwh", "demand_usd_per_kw_month"),
        ),
        Step(
            title="What does the building cost that the watts need?",
            text=("It is paid for the power provisioned, drawn or not.",),
            formula="F6: USD/h = all-in W x USD/W x CRF(interest, life) / 8760; "
            "F7: opex = all-in W x USD per W and year / 8760",
            worked="all-in power is not known: left out"
            if values.all_in_w is None or result.facility_usd_per_mtok is None
            else f"{values.all_in_w:.0f} W x {values.facility_usd_per_w:g} over "
            f"{values.facility_life_y:g} years at {values.wacc_ratio:.0%} = "
            f"{result.facility_usd_per_mtok:.4f} {currency} per million tokens; "
            f"opex {result.opex_usd_per_mtok:.4f}",
            inputs=(
                "all_in_w",
                "facility_usd_per_w",
                "facility_life_y",
                "wacc_ratio",
                "opex_usd_per_w_y",
            ),
        ),
        Step(
            title="And the whole?",
            text=_shares(case, evidence),
            formula="F8: USD per million = 1e6 x USD/h / (3600 x tok/s x U)",
            worked="no price of an accelerator-hour: no total"
            if values.rate_usd_per_hour is None or result.total_usd_per_mtok is None
            else f"1e6 x {values.rate_usd_per_hour:g} / (3600 x {values.tok_per_s:,.1f} x "
            f"{values.utilisation_ratio:g}) = {result.total_usd_per_mtok:.4f} {currency}",
            grids=(
                Grid(
                    head=("part", f"{currency} per million", "share", "90 % interval"),
                    rows=tuple(rows),
                ),
            ),
            inputs=("rate_usd_per_hour",),
        ),
    )


def _shares(case: Case, evidence: Evidence) -> tuple[str, ...]:
    result = case.result
    both = list(owning_shares(evidence.catalogue).values())
    electricity = [one[0] for one in both]
    linked = [one[1] for one in both]
    today = (
        f"By today's sources electricity is {min(electricity):.0%} to {max(electricity):.0%} of "
        f"the cost of owning, over {len(both)} accelerators at nameplate power; with the facility "
        f"built for the watts it is {min(linked):.0%} to {max(linked):.0%}. The rest is silicon, "
        "network and people."
    )
    if result.total_usd_per_mtok is None or result.power_linked_usd_per_mtok is None:
        return (today,)
    here = result.electricity_usd_per_mtok / result.total_usd_per_mtok
    all_linked = result.power_linked_usd_per_mtok / result.total_usd_per_mtok
    return (
        (
            f"Here electricity (with cooling and losses) is {here:.1%} of the total; with the "
            f"facility it is {all_linked:.1%}."
        ),
        today,
    )


def megawatts(case: Case) -> Step:
    """Tokens per megawatt, two numbers; water and carbon; the power-limited site: F9 to F11."""
    result, point = case.result, case.point
    rate = point.interactivity_tok_per_s
    provisioned = result.provisioned_tok_per_s_per_mw
    fleet = fleet_tok_per_s(1.0, result.facility_j_per_token)
    rows = [
        ("tokens/s per MW consumed (drawn, idle time included)", f"{fleet:,.0f}"),
        (
            "tokens/s per MW provisioned (reserved, at full load)",
            "not available" if provisioned is None else f"{provisioned:,.0f}",
        ),
        ("carbon, g CO2e per million tokens", _maybe(result.carbon_g_per_mtok, ".1f")),
        ("water, litres per million tokens", _maybe(result.water_l_per_mtok, ".2f")),
    ]
    at = f"at {rate:.1f} tokens/s/user" if rate else "at an interactivity that is not known"
    return Step(
        title="How many tokens does a megawatt serve?",
        text=(
            (
                f"Both numbers are {at}; without that, no ratio between machines means anything. "
                "A site limited by its supply serves in proportion to the first."
            ),
        ),
        formula="F9: consumed = 1e6 / J_facility; provisioned = 1e6 x tok/s / (all-in W x PUE)",
        worked=f"1e6 / {result.facility_j_per_token:.4f} = {fleet:,.0f}",
        grids=(Grid(head=("number", "value"), rows=tuple(rows)),),
        inputs=("all_in_w", "carbon_kg_per_kwh", "grid_l_per_kwh", "wue_l_per_kwh"),
    )


def doubts(case: Case) -> Step:
    """Which uncertain input moves the answer most."""
    inputs, ranges = owner_view(case)
    output = (
        "facility_j_per_token" if case.result.total_usd_per_mtok is None else "total_usd_per_mtok"
    )
    bars = [bar for bar in tornado(inputs, ranges, output) if bar.width > 0][:MOST_BARS]
    return Step(
        title="What is least certain?",
        text=(
            f"Each input alone, from its low to its high end, and `{output}` with it."
            if bars
            else "Every input was given without a range.",
        ),
        grids=(
            Grid(
                head=("input", "from", "to", "result at low", "result at high"),
                rows=tuple(
                    (
                        bar.name,
                        f"{case.ranges[bar.name].low:g}",
                        f"{case.ranges[bar.name].high:g}",
                        _maybe(bar.at_low, ".4f"),
                        _maybe(bar.at_high, ".4f"),
                    )
                    for bar in bars
                ),
            ),
        )
        if bars
        else (),
    )


def sources(case: Case, steps: Sequence[Step]) -> Step:
    """Every figure the walk used, with where it is from and when."""
    used = dict.fromkeys(name for step in steps for name in step.inputs if name in case.figures)
    rows = []
    for name in used:
        figure = case.figures[name]
        doubt = "; not verified" if figure.unverified else ""
        note = f"; {figure.note}" if figure.note else ""
        rows.append(
            (
                name,
                f"{figure.value:g}",
                figure.source.grade,
                figure.source.date,
                f"{figure.source.title}{note}{doubt}",
            )
        )
    return Step(
        title="Where do the figures come from?",
        grids=(Grid(head=("input", "value", "grade", "date", "source"), rows=tuple(rows)),),
    )


def _maybe(value: float | None, form: str) -> str:
    return "not available" if value is None else f"{value:{form}}"


def _watts(value: float) -> str:
    """
    Whole watts, or hundredths of a small device's, so that a reader can add them up.

    >>> _watts(669.6), _watts(1.48)
    ('670', '1.48')
    """
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"  # noqa: PLR2004
