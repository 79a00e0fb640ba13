"""Cost cases: runs read right, the best host power taken, prices and bases never mixed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cost_runs import folder, record

from harness.cost.case import YOURS, Choice, build, given, owner_view
from harness.cost.catalogue import Figure
from harness.cost.catalogue_files import load, measured_points
from harness.cost.document import document
from harness.cost.hours import hourly_figures, hours_of
from harness.cost.point import Point, of_numbers, of_published, of_run, read_record
from harness.cost.split import PARTS, split
from harness.errors import ConfigError, StoreError

CATALOGUE = load()
POINTS, PROMPT = measured_points()


def published(key: str, devices: int, batch: int) -> Point:
    (one,) = [
        one
        for one in POINTS
        if (one.accelerator, one.devices, round(one.batch)) == (key, devices, batch)
    ]
    return of_published(one, CATALOGUE.sources["mlenergy-v3"], input_tokens=PROMPT)


# research/cost.md, section 1.4: total, then shares in per cent, facility J, tok/s/MW, g CO2, litres
TABLE = """
h100-sxm 1 64 ai-liquid owned 0.1805 8.1 1.1 0.3 19.0 4.0 67.6 0.713 1632434 76.1 0.68
h100-sxm 1 64 ai-air owned 0.1805 7.2 3.0 0.5 19.0 4.0 66.3 0.806 1444076 86.0 0.76
h100-sxm 1 64 enterprise-air owned 0.1805 7.2 4.9 0.5 19.0 4.0 64.4 0.955 1219026 101.9 0.89
h100-sxm 2 1024 ai-liquid owned 0.0778 7.5 1.0 0.3 19.0 4.0 68.3 0.284 3788639 30.3 0.27
b200-hgx 1 256 ai-liquid owned 0.0577 6.5 0.9 0.3 16.0 3.4 73.0 0.185 6045767 19.7 0.18
b200-hgx 1 1024 ai-liquid owned 0.0386 5.9 0.8 0.2 16.0 3.4 73.7 0.112 9034325 12.0 0.11
h100-sxm 1 64 ai-air rental 0.3086 4.2 1.7 0.3 11.1 2.3 80.3 0.806 1444076 86.0 0.76
b200-hgx 1 256 ai-liquid rental 0.1235 3.0 0.4 0.1 7.5 1.6 87.4 0.185 6045767 19.7 0.18
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:5]))
def test_the_research_split_is_met_within_one_per_cent(row: list[str]):
    key, devices, batch, site, basis, *numbers = row
    total, *shares, joules, per_mw, carbon, water = map(float, numbers)
    point = published(key, int(devices), int(batch))
    found = build(CATALOGUE, point, Choice(site=site, price_basis=basis)).result
    assert found.total_usd_per_mtok == pytest.approx(total, rel=0.01)
    assert found.facility_j_per_token == pytest.approx(joules, rel=0.01)
    assert found.provisioned_tok_per_s_per_mw == pytest.approx(per_mw, rel=0.01)
    assert found.carbon_g_per_mtok == pytest.approx(carbon, rel=0.01)
    assert found.water_l_per_mtok == pytest.approx(water, rel=0.03)  # printed to two digits
    for part, share in zip(PARTS, shares, strict=True):
        # The table prints a tenth of a per cent: its rounding, or one per cent of the part.
        assert found.share_ratio(part) == pytest.approx(share / 100, rel=0.01, abs=0.0006)
    parts = sum(getattr(found, part) for part in PARTS)
    assert parts == pytest.approx(found.total_usd_per_mtok, abs=1e-9, rel=1e-9)


def test_a_run_is_read_per_device_with_its_own_idle_power_and_interval():
    point = of_run(record(devices=2), CATALOGUE)
    assert (point.devices, point.tok_per_s, point.device_w, point.idle_w) == (2, 2000, 600, 120)
    assert (point.device_w_low, point.device_w_high) == (594, 612)
    assert (point.accelerator, point.power_kind) == ("h100-sxm", "measured")
    case = build(CATALOGUE, point, Choice())
    assert case.inputs.idle_w == 120
    assert case.ranges["device_w"].high == 612
    assert of_run(record(), CATALOGUE, basis="total").tok_per_s == 4000


@pytest.mark.parametrize("kind", ["emulated", "modelled"])
def test_power_that_is_not_measured_is_labelled_everywhere(kind: str):
    case = build(CATALOGUE, of_run(record(power_kind=kind), CATALOGUE), Choice())
    assert "power_not_measured" in {one.code for one in case.findings}
    found = document(case, draws=20)
    assert found["power_kind"] == kind
    assert found["inputs"]["device_w"]["grade"] == kind


def test_the_host_is_metered_at_the_wall_where_it_can_be():
    run = record(devices=2, extra={"node_average_w": 2000.0, "cpu_package_average_w": 300.0})
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.host_method == "measured at the wall"
    assert case.inputs.other_active_w == 400.0


def test_else_by_rapl_and_the_site_s_fans():
    run = record(extra={"cpu_package_average_w": 150.0, "cpu_dram_average_w": 50.0})
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.host_method == "RAPL and fans"
    # IT = (600 + 200) / (0.96 - 0.02): fans are a share of what they are part of.
    assert case.inputs.other_active_w == pytest.approx(800 / 0.94 - 600)


def test_modelled_cpu_power_does_not_stand_for_a_measured_host():
    run = record(extra={"cpu_package_average_w": 150.0}, extra_kind="modelled")
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.host_method == "nameplate: an upper estimate"
    assert case.inputs.other_active_w == 670
    assert (case.ranges["other_active_w"].low, case.ranges["other_active_w"].high) == (268, 670)


def test_a_run_on_a_cpu_is_priced_at_its_own_boundary_and_says_so():
    run = record(boundary="cpu_package", power_kind="modelled", device_name=None, model="smollm2")
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.accelerator is None
    assert case.result.other_j_per_token is None
    assert case.result.total_usd_per_mtok is None
    codes = {one.code for one in case.findings}
    assert {"host_left_out", "no_price", "power_not_measured"} <= codes


def test_the_nameplate_is_scaled_by_what_is_drawn_of_it(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[defaults]\nnameplate_drawn_ratio = { value = 0.5, source = "epoch-chatgpt" }\n'
    )
    case = build(load([mine]), of_run(record(), CATALOGUE), Choice())
    assert case.inputs.other_active_w == 335


def test_an_accelerator_without_all_in_power_leaves_its_host_out():
    run = record(device_name="NVIDIA L40S")
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.accelerator is not None
    assert case.host_method == "left out"
    assert {"host_left_out", "no_all_in_power", "no_price"} <= {one.code for one in case.findings}


def test_a_boundary_s_own_kind_counts_and_not_the_least_trusted_of_the_run():
    run = replace(record(extra={"cpu_package_average_w": 9.0}), power_kind="modelled")
    point = of_run(run, CATALOGUE)
    assert (point.power_kind, point.source.grade) == ("measured", "measured")
    rows = [{"name": "steady", "energies": []}]
    assert of_run(replace(run, windows=rows), CATALOGUE).power_kind == "modelled"


def test_a_whole_machine_s_meter_leaves_no_host_out():
    run = record(boundary="node", device_name=None)
    case = build(CATALOGUE, of_run(run, CATALOGUE), Choice())
    assert case.result.other_j_per_token == 0.0
    assert "host_left_out" not in {one.code for one in case.findings}


def test_a_module_s_meter_warns_that_it_holds_the_cpu():
    point = of_run(record(boundary="gpu_module", device_name="NVIDIA GH200 480GB"), CATALOGUE)
    assert "module_holds_cpu" in {one.code for one in point.findings}


def test_the_owner_s_view_is_the_same_cost_with_the_server_apart():
    case = build(CATALOGUE, published("h100-sxm", 1, 64), Choice())
    inputs, ranges = owner_view(case)
    assert split(inputs).total_usd_per_mtok == pytest.approx(case.result.total_usd_per_mtok)
    dearer = split(replace(inputs, usd_per_kwh=0.2)).total_usd_per_mtok
    assert dearer is not None
    assert case.result.total_usd_per_mtok is not None
    extra = case.result.facility_j_per_token / 3.6 * (0.2 - 0.0861)
    assert dearer - case.result.total_usd_per_mtok == pytest.approx(extra)
    # The market's range, 1.17 to 1.30, moved by what the rate holds beside the server.
    assert ranges["rate_usd_per_hour"].low == inputs.rate_usd_per_hour
    width = ranges["rate_usd_per_hour"].high - ranges["rate_usd_per_hour"].low
    assert width == pytest.approx(1.30 - 1.17)


@pytest.mark.parametrize("pue", [1.04, 1.05, 1.1111, 1.2345])
def test_the_owner_s_ranges_hold_their_centre_whatever_the_rounding(pue: float):
    choice = Choice(given={"pue": given(pue)})
    inputs, ranges = owner_view(build(CATALOGUE, published("h100-sxm", 1, 64), choice))
    for name, span in ranges.items():
        assert span.low <= getattr(inputs, name) <= span.high, name


def test_a_point_of_one_accelerator_is_not_priced_as_another():
    with pytest.raises(ConfigError, match="measured on h100-sxm, not on a100-sxm"):
        build(CATALOGUE, published("h100-sxm", 1, 64), Choice(accelerator="a100-sxm"))


def test_a_renter_s_price_stands_still():
    case = build(CATALOGUE, published("h100-sxm", 1, 64), Choice(price_basis="rental"))
    assert owner_view(case)[0] is case.inputs


def test_a_bought_server_s_power_comes_on_top():
    choice = Choice(accelerator="gb200-nvl72", price_basis="purchase")
    case = build(CATALOGUE, by_hand(j_per_token=1.0), choice)
    assert case.inputs.rate_includes_power is False
    # 3.4 million for 72, 5 years at 8 per cent
    assert case.inputs.rate_usd_per_hour == pytest.approx(3.4e6 / 72 * 0.250456 / 8760, rel=1e-4)
    assert case.ranges["rate_usd_per_hour"].low < case.ranges["rate_usd_per_hour"].high


def by_hand(**more: float) -> Point:
    numbers = {"tok_per_s": 1000.0, "j_per_token": 0.5, "device_w": None} | more
    return of_numbers(source=YOURS, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(accelerator="h100"), "did you mean 'h100-sxm'"),
        (Choice(site="moon"), "no site 'moon'"),
        (Choice(tariff="moon"), "no tariff 'moon'"),
        (Choice(grid="moon"), "no grid 'moon'"),
        (Choice(accelerator="h100-sxm", price_basis="gift"), "no price basis 'gift'"),
        (
            Choice(accelerator="h100-sxm", power_basis="inferencex-2026-04"),
            "facility overhead included",
        ),
        (Choice(given={"speed": given(1)}), "speed cannot be given as an input"),
        (Choice(given={"device_w": given(1)}), "device_w cannot be given as an input"),
        (
            Choice(
                accelerator="h100-sxm", given={"rate_usd_per_hour": given(2)}, price_currency="EUR"
            ),
            "the price is in EUR, the site ai-liquid in USD",
        ),
        (Choice(), "no idle power, and 150 W is no guess"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(choice: Choice, said: str):
    with pytest.raises(ConfigError, match=said):
        build(CATALOGUE, by_hand(), choice)


def test_at_full_utilisation_no_idle_power_is_needed():
    case = build(CATALOGUE, by_hand(), Choice(given={"utilisation_ratio": given(1.0)}))
    assert case.result.idle_j_per_token == 0


@pytest.mark.parametrize("numbers", [{"device_w": 500.0}, {"j_per_token": None}])
def test_numbers_by_hand_need_joules_or_watts_and_not_both(numbers):
    with pytest.raises(ConfigError, match="exactly one of --j-per-token and --device-w"):
        by_hand(**numbers)


def test_a_run_without_energy_or_tokens_is_refused():
    run = record()
    bare = {key: value for key, value in run.metrics.items() if not key.endswith("_w")}
    with pytest.raises(ConfigError, match="has no energy to price"):
        of_run(replace(run, metrics=bare), CATALOGUE)
    with pytest.raises(ConfigError, match="has no output throughput to price"):
        of_run(replace(run, metrics={}), CATALOGUE)


def test_a_record_is_read_back_from_its_folder(tmp_path):
    name = folder(tmp_path, record())
    assert read_record(tmp_path / "run-1").run_id == "run-1"
    assert name.endswith("run-1")
    with pytest.raises(StoreError, match="cannot be read"):
        read_record(tmp_path / "nothing")


def hourly(tmp_path, text: str, hours: str = "0-23") -> dict[str, Figure]:
    path = tmp_path / "hours.csv"
    path.write_text(text)
    return hourly_figures(path, hours_of(hours))


def test_a_series_by_hour_is_averaged_over_the_hours_served(tmp_path):
    rows = "\n".join(f"{hour},{0.1 if hour < 12 else 0.3}" for hour in range(24))
    text = f"hour,carbon_kg_per_kwh\n{rows}\n"
    whole = hourly(tmp_path, text)["carbon_kg_per_kwh"]
    assert (whole.value, whole.low, whole.high) == (pytest.approx(0.2), 0.1, 0.3)
    night = hourly(tmp_path, text, "22-3")["carbon_kg_per_kwh"]
    assert night.value == pytest.approx((2 * 0.3 + 4 * 0.1) / 6)
    case = build(
        CATALOGUE,
        published("h100-sxm", 1, 64),
        Choice(given={"carbon_kg_per_kwh": whole}),
    )
    assert case.result.carbon_g_per_mtok == pytest.approx(
        case.result.facility_j_per_token / 3.6 * 200
    )


@pytest.mark.parametrize(
    ("text", "hours", "said"),
    [
        ("hour,price\n0,1\n", "0", "none of the columns"),
        ("hour,usd_per_kwh\n0,0.1\n", "0-1", "hour 1 of usd_per_kwh is absent"),
        ("hour,usd_per_kwh\n0,-0.1\n", "0", "absent, negative or not finite"),
        ("hour,usd_per_kwh\n0,cheap\n", "0", "a row that is not understood"),
        ("hour,usd_per_kwh\n0,0.1\n", "0-24", "go past 23"),
        ("hour,usd_per_kwh\n0,0.1\n", "noon", "are not understood"),
    ],
)
def test_a_series_that_is_not_understood_is_refused(tmp_path, text: str, hours: str, said: str):
    with pytest.raises(ConfigError, match=said):
        hourly(tmp_path, text, hours)


def test_every_number_of_a_document_has_its_source():
    case = build(CATALOGUE, published("h100-sxm", 1, 64), Choice())
    found = document(case, draws=50)
    for name, row in found["inputs"].items():
        assert row["source"], name
        assert row["date"], name
    low, high = found["interval"]["of"]["facility_j_per_token"]
    assert low < found["result"]["facility_j_per_token"] < high
    assert found["tornado"]["total_usd_per_mtok"][0]["name"] == "utilisation_ratio"
