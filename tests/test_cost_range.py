"""Intervals and tornado: seeded, centred, honest about ranges that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cost.range import Range, intervals, tornado
from harness.cost.split import CostInputs, split
from harness.errors import ConfigError

BASE = CostInputs(
    tok_per_s=1000.0,
    device_w=500.0,
    idle_w=100.0,
    utilisation_ratio=0.5,
    other_active_w=200.0,
    load_independent_ratio=0.5,
    all_in_w=1000.0,
    pue=1.2,
    fan_ratio=0.05,
    electrical_loss_ratio=0.05,
    psu_efficiency_ratio=0.95,
    usd_per_kwh=0.1,
    demand_usd_per_kw_month=0.0,
    facility_usd_per_w=10.0,
    facility_life_y=15.0,
    wacc_ratio=0.08,
    opex_usd_per_w_y=0.3,
    rate_usd_per_hour=1.0,
    rate_includes_power=False,
    wue_l_per_kwh=0.4,
    grid_l_per_kwh=3.0,
    carbon_kg_per_kwh=0.4,
)
RANGES = {"usd_per_kwh": Range(low=0.05, high=0.2), "pue": Range(low=1.1, high=1.5)}


def test_without_ranges_an_interval_is_the_number_itself():
    found = intervals(BASE, {}, draws=5)
    total = split(BASE).total_usd_per_mtok
    assert found["total_usd_per_mtok"] == (pytest.approx(total), pytest.approx(total))


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    once, again = (intervals(BASE, RANGES, seed=7, draws=200) for _ in range(2))
    assert once == again
    assert intervals(BASE, RANGES, seed=8, draws=200) != once


def test_an_interval_lies_within_the_extremes_and_is_near_the_triangle_s_percentiles():
    """One input, a linear output: the triangle's own 5th and 95th percentiles are known."""
    spans = intervals(BASE, {"usd_per_kwh": RANGES["usd_per_kwh"]}, draws=8000)
    low, high = spans["it_energy_usd_per_mtok"]
    centre = split(BASE).it_energy_usd_per_mtok
    # 5 % of the triangle 0.05, 0.1, 0.2 is at 0.05 + sqrt(.05 x .15 x .05), 95 % likewise.
    assert low == pytest.approx(centre * (0.05 + (0.05 * 0.15 * 0.05) ** 0.5) / 0.1, rel=0.02)
    assert high == pytest.approx(centre * (0.2 - (0.05 * 0.15 * 0.1) ** 0.5) / 0.1, rel=0.02)


@settings(max_examples=20)
@given(low=st.floats(0.2, 0.5), high=st.floats(0.5, 1.0))
def test_a_bar_s_ends_are_the_split_at_those_ends(low: float, high: float):
    (bar,) = tornado(BASE, {"utilisation_ratio": Range(low=low, high=high)}, "total_usd_per_mtok")
    assert bar.at_low == split(replace(BASE, utilisation_ratio=low)).total_usd_per_mtok
    assert bar.at_high == split(replace(BASE, utilisation_ratio=high)).total_usd_per_mtok


def test_the_widest_bar_comes_first():
    bars = tornado(BASE, RANGES | {"opex_usd_per_w_y": Range(low=0.29, high=0.31)}, "it_w")
    assert all(bar.width == 0 for bar in bars)
    bars = tornado(BASE, RANGES, "electricity_usd_per_mtok")
    assert [bar.name for bar in bars] == ["usd_per_kwh", "pue"]
    assert bars[0].width > bars[1].width


def test_draws_that_cannot_be_are_drawn_again_and_an_impossible_end_has_no_bar():
    ranges = {"pue": Range(low=1.04, high=1.4)}
    assert intervals(BASE, ranges, draws=100)["facility_j_per_token"][0] > 0
    (bar,) = tornado(BASE, ranges, "facility_j_per_token")
    assert bar.at_low is None
    assert bar.width == 0


def test_a_range_that_leaves_out_its_centre_is_refused():
    with pytest.raises(ConfigError, match=r"outside its own range 1\.3 to 1\.5"):
        intervals(BASE, {"pue": Range(low=1.3, high=1.5)})
