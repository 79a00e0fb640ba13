"""The formulas F1 to F12: hand-computed values, properties, and refusals that name the limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cost import formulas as cost
from harness.errors import ConfigError

positive = st.floats(1e-3, 1e6)
ratio = st.floats(0.01, 1.0)


def test_joules_per_token_are_energy_over_tokens():
    assert cost.j_per_token(1500.0, 3000) == 0.5


def test_it_power_by_hand():
    # 0.7 x 688.2 + 0.3 x 150 + 670 x (0.6 + 0.4 x 0.7) = 481.74 + 45 + 589.6
    found = cost.it_w(688.2, 150, 670, utilisation_ratio=0.7, load_independent_ratio=0.6)
    assert found == pytest.approx(1116.34)


def test_a_host_is_what_the_wall_sees_beyond_the_devices():
    assert cost.other_from_wall_w(1000.0, 700.0) == 300.0


def test_parts_and_fans_carry_the_supply_loss_of_the_whole():
    # (700 + 150 + 50) / 0.9 = 1000 at the wall, 300 beside the device
    found = cost.other_from_parts_w(150, 50, 700, psu_efficiency_ratio=0.9)
    assert found == pytest.approx(300.0)


def test_nameplate_host_power():
    assert cost.other_from_nameplate_w(1370, 700, drawn_ratio=0.5) == 335.0


def test_itue_and_tue_by_hand():
    itue = cost.itue(fan_ratio=0.12, psu_efficiency_ratio=0.92)
    assert itue == pytest.approx(1.25)
    assert cost.tue(itue, 1.2) == pytest.approx(1.5)


def test_a_demand_charge_is_spread_over_the_hours_it_is_paid_for():
    # 12.5 x 12 / (8760 x 0.5) = 0.034247
    assert cost.effective_usd_per_kwh(0.08, 12.5, 0.5) == pytest.approx(0.114247, abs=1e-6)
    assert cost.effective_usd_per_kwh(0.08, 0.0, 0.5) == 0.08


def test_capital_recovery_by_hand():
    assert cost.capital_recovery_ratio(0.08, 14) == pytest.approx(0.121297, abs=1e-6)
    assert cost.capital_recovery_ratio(0.0, 5) == 0.2


def test_facility_and_opex_of_an_hour():
    found = cost.facility_usd_per_hour(1370, 11.7, wacc_ratio=0.08, life_y=14)
    assert found == pytest.approx(1370 * 11.7 * 0.121297 / 8760, rel=1e-5)
    assert cost.opex_usd_per_hour(8760, 0.5) == 0.5


def test_a_bought_server_less_its_resale():
    whole = cost.server_usd_per_hour(43800, wacc_ratio=0.0, life_y=5)
    assert whole == pytest.approx(1.0)
    assert cost.server_usd_per_hour(
        43800, wacc_ratio=0.0, life_y=5, resale_usd=21900
    ) == pytest.approx(0.5)


def test_dollars_of_a_million_tokens():
    assert cost.usd_per_mtok(1.30, 4170.9) == pytest.approx(0.08658, abs=1e-5)
    assert cost.usd_per_mtok(3.6, 1000, utilisation_ratio=0.5) == pytest.approx(2.0)


def test_tokens_per_megawatt_consumed_and_provisioned():
    assert cost.consumed_tok_per_s_per_mw(0.5) == 2e6
    assert cost.provisioned_tok_per_s_per_mw(1000, 1000, pue=1.25) == pytest.approx(8e5)
    assert cost.provisioned_tok_per_s_per_mw(25319.6, 2170) == pytest.approx(11.668e6, rel=1e-4)


def test_mlperf_endpoints_nameplate():
    assert cost.endpoints_nameplate_w(1000, "liquid") == 1300
    assert cost.endpoints_nameplate_w(1000, "air") == 1500
    with pytest.raises(ConfigError, match="choose one of: liquid, air"):
        cost.endpoints_nameplate_w(1000, "steam")


def test_water_and_carbon_of_a_million_tokens():
    # 3.6 J per token is one kWh per million.
    assert cost.carbon_g_per_mtok(3.6, 0.384) == pytest.approx(384.0)
    assert cost.water_l_per_mtok(3.6, 7.2, wue_l_per_kwh=0.5, grid_l_per_kwh=3.0) == pytest.approx(
        6.5
    )


def test_a_power_limited_site_and_oversubscription():
    assert cost.fleet_tok_per_s(2.0, 0.5) == 4e6
    assert cost.oversubscribed_w(1300, 0.3) == pytest.approx(1000)


@given(j=positive, price=positive, pue=st.floats(1.0, 3.0))
def test_energy_dollars_are_linear_in_each(j: float, price: float, pue: float):
    once = cost.energy_usd_per_mtok(j, price, pue=pue)
    assert once == pytest.approx(j * price * pue / 3.6)
    assert cost.energy_usd_per_mtok(2 * j, price, pue=pue) == pytest.approx(2 * once)


@given(rate=st.floats(0, 0.5), years=st.floats(0.5, 40))
def test_capital_recovery_pays_at_least_the_capital_back(rate: float, years: float):
    assert cost.capital_recovery_ratio(rate, years) * years >= 1 - 1e-9


@given(watts=positive, usd=positive)
def test_tokens_per_megawatt_and_joules_are_one_fact(watts: float, usd: float):
    del usd
    j = watts / 100.0
    assert cost.consumed_tok_per_s_per_mw(j) * j == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("call", "limit"),
    [
        (lambda: cost.energy_usd_per_mtok(1, 0.1, pue=0.9), r"pue is 0.9; .* at least 1"),
        (lambda: cost.energy_usd_per_mtok(-1, 0.1), r"j_per_token is -1; .* at least 0"),
        (lambda: cost.energy_usd_per_mtok(1, -0.1), r"usd_per_kwh is -0.1; .* at least 0"),
        (lambda: cost.energy_usd_per_mtok(math.nan, 0.1), "j_per_token is nan; it must be finite"),
        (lambda: cost.usd_per_mtok(-2, 10), r"usd_per_hour is -2; .* at least 0"),
        (lambda: cost.usd_per_mtok(2, 0), r"tok_per_s is 0; .* more than 0"),
        (
            lambda: cost.usd_per_mtok(2, 10, utilisation_ratio=0),
            r"utilisation_ratio is 0; .* more than 0 and at most 1",
        ),
        (
            lambda: cost.usd_per_mtok(2, 10, utilisation_ratio=1.1),
            r"utilisation_ratio is 1.1; .* at most 1",
        ),
        (lambda: cost.other_from_wall_w(600, 700), r"wall_w is 600; .* at least 700"),
        (lambda: cost.other_from_nameplate_w(600, 700), r"all_in_w is 600; .* at least 700"),
        (lambda: cost.capital_recovery_ratio(0.08, 0), r"years is 0; .* more than 0"),
        (lambda: cost.itue(0.5, 0.4), "psu_efficiency_ratio less fan_ratio"),
    ],
)
def test_nonsense_is_refused_and_the_limit_named(call, limit: str):
    with pytest.raises(ConfigError, match=limit):
        call()
