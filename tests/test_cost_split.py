"""The split of a million tokens' cost: the research table, parts that sum, what is missing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cost.split import PARTS, CostInputs, split
from harness.errors import ConfigError

H100 = CostInputs(
    tok_per_s=2571.9,
    device_w=0.2676 * 2571.9,
    idle_w=150,
    utilisation_ratio=0.7,
    other_active_w=670,
    load_independent_ratio=0.6,
    all_in_w=1370,
    pue=1.15,
    fan_ratio=0.02,
    electrical_loss_ratio=0.04,
    psu_efficiency_ratio=0.96,
    usd_per_kwh=0.0861,
    demand_usd_per_kw_month=0,
    facility_usd_per_w=11.7,
    facility_life_y=14,
    wacc_ratio=0.08,
    opex_usd_per_w_y=0.30,
    rate_usd_per_hour=1.17,
    rate_includes_power=True,
    wue_l_per_kwh=0.36,
    grid_l_per_kwh=3.13,
    carbon_kg_per_kwh=0.384,
)


def test_the_split_by_hand():
    """IT 1116.37 W over 1800.33 tok/s; 8.61 cents; each part from its formula alone."""
    found = split(H100)
    it_kwh = 1116.368308 / (2571.9 * 0.7) / 3.6
    assert found.it_energy_usd_per_mtok == pytest.approx(it_kwh * 0.0861 * 0.98)
    assert found.cooling_usd_per_mtok == pytest.approx(it_kwh * 0.0861 * (0.02 + 0.11))
    assert found.electrical_loss_usd_per_mtok == pytest.approx(it_kwh * 0.0861 * 0.04)
    assert found.facility_usd_per_mtok == pytest.approx(0.034245, rel=1e-4)
    assert found.total_usd_per_mtok == pytest.approx(1.17e6 / (3600 * 2571.9 * 0.7))


@given(
    rate=st.one_of(st.none(), st.floats(0.1, 20)),
    bundled=st.booleans(),
    utilisation=st.floats(0.05, 1.0),
    pue=st.floats(1.1, 2.0),
    fans=st.floats(0, 0.3),
    demand=st.floats(0, 20),
    device=st.floats(50, 1400),
    tokens=st.floats(1, 1e5),
)
def test_the_parts_sum_to_the_total(  # noqa: PLR0917  # drawn by hypothesis
    rate: float | None,
    bundled: bool,
    utilisation: float,
    pue: float,
    fans: float,
    demand: float,
    device: float,
    tokens: float,
):
    found = split(
        replace(
            H100,
            rate_usd_per_hour=rate,
            rate_includes_power=bundled,
            utilisation_ratio=utilisation,
            pue=pue,
            fan_ratio=fans,
            demand_usd_per_kw_month=demand,
            device_w=device,
            tok_per_s=tokens,
        )
    )
    assert found.it_j_per_token * pue == pytest.approx(found.facility_j_per_token, rel=1e-12)
    energy = found.facility_j_per_token / 3.6 * found.usd_per_kwh
    assert found.electricity_usd_per_mtok == pytest.approx(energy, rel=1e-9)
    joules = (found.device_j_per_token, found.idle_j_per_token, found.other_j_per_token or 0)
    assert sum(joules) == pytest.approx(found.it_j_per_token, rel=1e-9)
    if rate is None:
        assert found.total_usd_per_mtok is None
        return
    parts = [getattr(found, part) for part in PARTS]
    assert sum(parts) == pytest.approx(found.total_usd_per_mtok, rel=1e-9)
    if bundled:
        hour = 1e6 * rate / (3600 * tokens * utilisation)
        assert found.total_usd_per_mtok == pytest.approx(hour, rel=1e-9)


def test_what_is_missing_is_none_with_a_finding_and_never_zero():
    found = split(
        replace(
            H100,
            other_active_w=None,
            all_in_w=None,
            rate_usd_per_hour=None,
            grid_l_per_kwh=None,
            carbon_kg_per_kwh=None,
        )
    )
    missing = {one.name for one in fields(found) if getattr(found, one.name) is None}
    assert missing == {
        "other_j_per_token",
        "load_factor_ratio",
        "facility_usd_per_mtok",
        "opex_usd_per_mtok",
        "server_usd_per_mtok",
        "total_usd_per_mtok",
        "power_linked_usd_per_mtok",
        "provisioned_tok_per_s_per_mw",
        "water_l_per_mtok",
        "carbon_g_per_mtok",
    }
    assert {one.code for one in found.findings} == {
        "host_left_out",
        "no_all_in_power",
        "no_price",
        "no_grid_water",
        "no_grid_carbon",
    }


def test_a_rate_below_its_own_power_is_negative_and_said():
    found = split(replace(H100, rate_usd_per_hour=0.1))
    assert found.server_usd_per_mtok is not None
    assert found.server_usd_per_mtok < 0
    assert [one.code for one in found.findings] == ["rate_below_cost"]


def test_drawing_more_than_provisioned_is_said():
    found = split(replace(H100, all_in_w=1000))
    assert [one.code for one in found.findings] == ["above_all_in_power"]


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"pue": 0.99}, r"pue is 0.99; .* at least 1"),
        ({"utilisation_ratio": 0.0}, "more than 0 and at most 1"),
        ({"utilisation_ratio": 1.01}, "more than 0 and at most 1"),
        ({"rate_usd_per_hour": -1.0}, "usd_per_hour is -1"),
        ({"usd_per_kwh": -0.1}, "usd_per_kwh is -0.1"),
        ({"electrical_loss_ratio": 0.2}, "more than all overhead of PUE 1.15"),
        ({"all_in_w": None, "demand_usd_per_kw_month": 5.0}, "demand charge needs the provisioned"),
        ({"tok_per_s": 0.0}, "tok_per_s is 0"),
        ({"fan_ratio": 1.5}, "fan_ratio is 1.5"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, float | None], limit: str):
    with pytest.raises(ConfigError, match=limit):
        split(replace(H100, **changes))  # type: ignore[arg-type]
