"""The physical limit: the research table, measured points below it, and what must always hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cost.catalogue import device
from harness.cost.catalogue_files import load, measured_points, model_shape
from harness.errors import ConfigError
from harness.roofline.bound import Serving, bound, seconds, step
from harness.roofline.fit import MeasuredPoint, fit, serving_of
from harness.roofline.model import from_config
from harness.roofline.search import best, distance, fewest_devices, fits, frontier, natural

CATALOGUE = load()
MODEL = model_shape()
PHYSICS = CATALOGUE.physics()
POINTS, PROMPT = measured_points()

# research/cost.md, section 3.4: accelerator, batch, devices, sharing, bytes of a cached value,
# bound, tok/s by time, tok/s under TDP, J_phys in mJ, J_roof in J, watts
TABLE = """
h100-sxm 1 1 tp 2 power 654 639 161.14 1.0951 700
h100-sxm 64 1 tp 2 power 3542 3291 30.84 0.2127 700
h100-sxm 256 2 tp 2 power 10744 8890 11.21 0.0787 700
h100-sxm 1024 4 tp 2 power 26997 17913 5.64 0.0391 700
h200-sxm 1 1 tp 2 memory 937 937 161.14 0.7328 687
h200-sxm 64 1 tp 2 power 5075 4856 30.84 0.1441 700
h200-sxm 256 1 tp 2 power 15394 12469 11.06 0.0561 700
h200-sxm 1024 2 tp 2 power 38682 23269 5.35 0.0301 700
b200-hgx 1 1 tp 2 power 1503 1456 161.14 0.6869 1000
b200-hgx 64 1 tp 2 power 8141 7521 30.84 0.1330 1000
b200-hgx 256 1 tp 2 power 24695 20465 11.06 0.0489 1000
b200-hgx 1024 1 tp 2 power 62052 41727 5.20 0.0240 1000
gb200-nvl72 1 1 tp 2 memory 1562 1562 161.14 0.6702 1047
gb200-nvl72 64 1 tp 2 memory 8458 8458 30.84 0.1277 1080
gb200-nvl72 256 1 tp 2 memory 25657 25657 11.06 0.0453 1163
gb200-nvl72 1024 1 tp 2 power 64470 54732 5.20 0.0219 1200
gb300-nvl72 1 1 tp 2 memory 1562 1562 161.14 0.6702 1047
gb300-nvl72 64 1 tp 2 memory 8458 8458 30.84 0.1277 1080
gb300-nvl72 256 1 tp 2 memory 25657 25657 11.06 0.0453 1163
gb300-nvl72 1024 1 tp 2 memory 64470 64470 5.20 0.0209 1350
gb200-nvl72 72 72 ep 2 memory 2038 2038 124.02 0.5147 1049
gb200-nvl72 576 72 ep 2 memory 14427 14427 18.85 0.0768 1109
gb200-nvl72 4608 72 ep 2 power 64974 55026 5.39 0.0218 1200
gb200-nvl72 18432 72 ep 2 power 104022 74078 3.95 0.0162 1200
gb200-nvl72 73728 72 ep 2 power 122414 81097 3.59 0.0148 1200
gb300-nvl72 72 72 ep 2 memory 2038 2038 124.02 0.5147 1049
gb300-nvl72 576 72 ep 2 memory 14427 14427 18.85 0.0768 1109
gb300-nvl72 4608 72 ep 2 memory 64974 64974 5.39 0.0208 1352
gb300-nvl72 18432 72 ep 2 power 104022 91680 3.95 0.0153 1400
gb300-nvl72 73728 72 ep 2 power 122414 100367 3.59 0.0139 1400
h100-sxm 8 8 ep 2 power 682 666 154.86 1.0513 700
h100-sxm 64 8 ep 2 power 2608 2462 41.60 0.2843 700
h100-sxm 512 8 ep 2 power 14628 11429 8.67 0.0612 700
h100-sxm 1024 8 ep 2 power 23062 16073 6.06 0.0435 700
h200-sxm 1024 1 tp 1 power 51422 27116 4.24 0.0258 700
b200-hgx 1024 1 tp 1 power 82490 50284 4.24 0.0199 1000
gb200-nvl72 1024 1 tp 1 power 85704 65956 4.24 0.0182 1200
gb300-nvl72 1024 1 tp 1 power 85704 81628 4.24 0.0172 1400
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def silicon(key: str):
    return device(CATALOGUE.accelerator(key))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:4]))
def test_the_research_table_is_met_within_two_per_cent(row: list[str]):
    key, batch, devices, sharing, kv_bytes, bound_by, *numbers = row
    serving = Serving(
        batch=float(batch),
        devices=int(devices),
        sharing="tp" if sharing == "tp" else "ep",
        kv_bytes=float(kv_bytes),
    )
    found = bound(MODEL, silicon(key), serving, PHYSICS)
    ours = (
        found.time_tok_per_s,
        found.tok_per_s,
        found.j_phys_per_token * 1e3,
        found.j_roof_per_token,
        found.device_w,
    )
    assert ours == pytest.approx([float(one) for one in numbers], rel=0.02)
    assert found.bound_by == bound_by


@pytest.mark.parametrize(
    "point", POINTS, ids=lambda p: f"{p.accelerator}-{p.devices}-{p.batch:.0f}"
)
def test_no_measured_point_beats_the_time_bound_or_the_physical_floor(point: MeasuredPoint):
    serving = natural(MODEL, serving_of(point, input_tokens=PROMPT))
    found = distance(
        MODEL,
        silicon(point.accelerator),
        serving,
        PHYSICS,
        tok_per_s=point.tok_per_s / point.devices,
        j_per_token=point.j_per_token,
    )
    assert 0 < found.time_ratio < 1
    assert 0 < found.mbu_ratio < 1
    assert found.mfu_ratio < found.mbu_ratio
    assert found.over_phys_ratio is not None
    assert found.over_phys_ratio > 5
    assert found.over_roof_ratio is not None
    assert found.over_roof_ratio > 1


def test_the_best_use_of_bandwidth_is_h100_at_batch_64():
    """71 per cent, as research/cost.md reads off the same points."""
    (point,) = [
        one
        for one in POINTS
        if (one.accelerator, one.devices) == ("h100-sxm", 1) and round(one.batch) == 64
    ]
    serving = serving_of(point, input_tokens=PROMPT)
    found = distance(
        MODEL, silicon("h100-sxm"), serving, PHYSICS, tok_per_s=point.tok_per_s, j_per_token=None
    )
    assert found.mbu_ratio == pytest.approx(0.71, abs=0.005)
    assert found.over_phys_ratio is None


servings = st.builds(
    Serving,
    batch=st.integers(1, 4096),
    devices=st.sampled_from([1, 2, 4, 8]),
    sharing=st.sampled_from(["tp", "ep"]),
    input_tokens=st.integers(1, 8192),
    output_tokens=st.integers(1, 8192),
    decode_only=st.booleans(),
    kv_bytes=st.sampled_from([1.0, 2.0]),
)


@settings(max_examples=60)
@given(serving=servings)
def test_power_never_helps_and_stays_under_tdp(serving: Serving):
    h100 = silicon("h100-sxm")
    found = bound(MODEL, h100, serving, PHYSICS)
    assert found.tok_per_s <= found.time_tok_per_s * (1 + 1e-12)
    assert found.device_w is not None
    assert h100.static_w is not None
    assert h100.tdp_w is not None
    assert h100.static_w <= found.device_w <= h100.tdp_w * (1 + 1e-9)
    assert found.j_roof_per_token is not None
    assert found.j_roof_per_token > found.j_phys_per_token
    per_device = found.tok_per_s * serving.devices
    assert found.j_roof_per_token * per_device == pytest.approx(found.device_w * serving.devices)


@settings(max_examples=60)
@given(serving=servings)
def test_more_bandwidth_never_makes_it_slower(serving: Serving):
    h100 = silicon("h100-sxm")
    faster = replace(h100, bandwidth_bytes_per_s=h100.bandwidth_bytes_per_s * 1.5)
    before, after = (bound(MODEL, one, serving, PHYSICS).time_tok_per_s for one in (h100, faster))
    assert after >= before * (1 - 1e-12)


def test_one_sequence_reads_its_experts_and_all_shared_weights():
    """By hand: 4 of 128 experts in 36 layers, 3.10 GB shared, no cache to speak of."""
    work = step(MODEL, Serving(batch=1, input_tokens=1, output_tokens=1))
    experts = 36 * 4 * 13.23648e6
    assert work.memory_bytes == pytest.approx(experts + 3.0968e9, rel=2e-3)
    assert work.link_bytes == 0


def test_arithmetic_takes_what_its_precision_allows():
    h100 = silicon("h100-sxm")
    work = step(MODEL, Serving(batch=64))
    at_fp8 = seconds(work, h100, Serving(batch=64))["arithmetic"]
    at_bf16 = seconds(work, h100, Serving(batch=64, expert_precision="bf16"))["arithmetic"]
    assert at_bf16 > at_fp8
    # Hopper has no FP4: it falls back to the next wider rate it has.
    assert h100.peak("fp4") == h100.peak("fp8")
    with pytest.raises(ConfigError, match="no rate for bf16"):
        replace(h100, peak_flop_per_s={}).peak("bf16")


def test_an_accelerator_without_a_calibration_has_no_energy_and_no_power_bound():
    found = bound(MODEL, silicon("mi355x"), Serving(batch=64), PHYSICS)
    assert found.j_roof_per_token is None
    assert found.device_w is None
    assert found.tok_per_s == found.time_tok_per_s


def test_gpt_oss_120b_needs_one_h100_for_64_and_four_for_1024_sequences():
    h100 = silicon("h100-sxm")
    assert fewest_devices(MODEL, h100, Serving(batch=64)) == 1
    assert fewest_devices(MODEL, h100, Serving(batch=1024)) == 4
    assert fewest_devices(MODEL, h100, Serving(batch=1e6)) is None
    assert not fits(MODEL, h100, Serving(batch=1024))


@pytest.mark.parametrize(
    ("users", "h100", "gb200", "per_mw"),
    [
        (20, 24640, 82393, 2.4),
        (100, 19654, 79757, 3.0),
        (300, 7051, 72660, 7.6),
        (400, 3128, 70332, 16.5),
    ],
)
def test_the_best_at_one_interactivity(users: float, h100: float, gb200: float, per_mw: float):
    """research/cost.md, the iso-interactivity table; the ratio is per provisioned megawatt."""
    rates = {}
    for key, theirs in (("h100-sxm", h100), ("gb200-nvl72", gb200)):
        found = best(
            frontier(MODEL, silicon(key), Serving(batch=1), PHYSICS), interactivity_tok_per_s=users
        )
        assert found is not None
        assert found.interactivity_tok_per_s >= users
        assert found.tok_per_s == pytest.approx(theirs, rel=0.02)
        rates[key] = found.tok_per_s
    ratio = rates["gb200-nvl72"] / 1.87 / (rates["h100-sxm"] / 1.37)
    assert ratio == pytest.approx(gb200 / h100 * 1.37 / 1.87, rel=0.02)
    assert ratio == pytest.approx(per_mw, abs=0.1)


def test_no_way_to_serve_at_an_impossible_interactivity():
    limits = frontier(MODEL, silicon("h100-sxm"), Serving(batch=1), PHYSICS)
    assert best(limits, interactivity_tok_per_s=1e6) is None


def test_a_fit_finds_the_constants_that_made_its_points():
    """Synthetic watts from known constants: the fit gives them back."""
    static_w, per_byte, per_flop = 200.0, 1e-10, 3e-12
    points = []
    for batch in (1, 8, 32, 64, 128, 256):
        tok_per_s = 100.0 * batch**0.7
        work = step(MODEL, Serving(batch=batch, input_tokens=300, output_tokens=1000))
        flop = work.expert_flop + work.linear_flop
        watts = static_w + (work.memory_bytes * per_byte + flop * per_flop) * tok_per_s / batch
        points.append(
            MeasuredPoint(
                accelerator="x",
                devices=1,
                batch=batch,
                output_tokens=1000,
                tok_per_s=tok_per_s,
                device_w=watts,
                j_per_token=watts / tok_per_s,
                median_itl_ms=10,
            )
        )
    found = fit(MODEL, points, input_tokens=300)
    assert found.static_w == pytest.approx(static_w, rel=1e-6)
    assert found.memory_j_per_byte == pytest.approx(per_byte, rel=1e-6)
    assert found.work_j_per_flop == pytest.approx(per_flop, rel=1e-6)
    assert found.r2 == pytest.approx(1.0)
    assert found.held_out_rmse_w == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ConfigError, match="4 points cannot fit"):
        fit(MODEL, points[:4], input_tokens=300)


@pytest.mark.parametrize("name", ["batch", "input_tokens", "output_tokens", "kv_bytes"])
def test_nonsense_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"{name} is 0; it must be finite and more than 0"):
        bound(MODEL, silicon("h100-sxm"), replace(Serving(batch=1), **{name: 0}), PHYSICS)


def test_operations_of_a_token_by_hand():
    """10.27 GFLOP of products and 0.49 of attention decoded, 8.79 more in its share of prompt."""
    alone = bound(MODEL, silicon("h100-sxm"), Serving(batch=64, decode_only=True), PHYSICS)
    assert alone.flop_per_token == pytest.approx((7.17 + 3.10 + 0.49) * 1e9, rel=5e-3)
    both = bound(MODEL, silicon("h100-sxm"), Serving(batch=64), PHYSICS)
    assert both.flop_per_token == pytest.approx(20.05e9, rel=5e-3)
    split_up = bound(MODEL, silicon("h100-sxm"), Serving(batch=64, devices=4), PHYSICS)
    assert split_up.flop_per_token == pytest.approx(both.flop_per_token)


TINY = from_config(
    {
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
        "moe_intermediate_size": 4,
        "num_experts": 4,
        "num_experts_per_tok": 1,
        "vocab_size": 32,
    },
    name="tiny",
)


def test_a_step_of_a_tiny_model_by_hand():
    """3 sequences at context 10, 2 prompt tokens: every term small enough to count."""
    serving = Serving(batch=3, input_tokens=6, output_tokens=8)
    work = step(TINY, serving, prompt_tokens=2)
    experts = 2 * 4 * (3 * 8 * 4 * 2) * (1 - 0.75**5)
    attention = 8 * (8 + 2 * 4) + 8 * 8 + 16  # queries, one key and value head, output, norms
    shared = (2 * attention + 2 * 8 * 4 + 32 * 8) * 2
    cache = (3 * 2 * 10 + 5 * 2) * (2 * 4) * 2  # read by 3 over 2 layers, written by 5
    looked_up = 5 * 8 * 2
    assert work.memory_bytes == pytest.approx(experts + shared + cache + looked_up)
    assert work.expert_flop == 5 * 2 * 2 * (3 * 8 * 4)
    products = 2 * 5 * (2 * attention + 2 * 8 * 4) + 2 * 3 * 32 * 8
    attended = 4 * 8 * (3 * 2 * 10 + 2 * 2 * 3)
    assert work.linear_flop == products + attended


def test_links_carry_all_reduces_or_the_experts_traffic():
    pair = Serving(batch=4, devices=2, input_tokens=6, output_tokens=8)
    assert step(TINY, pair).link_bytes == 2 * 2 * 4 * 8 * 2 * 2 / 2
    spread = replace(pair, sharing="ep")
    assert step(TINY, spread).link_bytes == 2 * (4 / 2) * 1 * 8 * 3 / 2


def test_what_fits_is_counted_by_the_byte():
    """One device more or less of 0.92 usable memory than weights and caches."""
    serving = Serving(batch=4, devices=2, input_tokens=6, output_tokens=8)
    caches = 4 * 2 * 14 * (2 * 4) * 2 / 2
    needs = {
        "tp": TINY.weight_bytes / 2 + caches,
        "ep": TINY.all_experts_bytes / 2 + (TINY.weight_bytes - TINY.all_experts_bytes) + caches,
    }
    for sharing, need in needs.items():
        way = replace(serving, sharing="tp" if sharing == "tp" else "ep")
        just = replace(silicon("h100-sxm"), memory_bytes=need / 0.92 + 1)
        assert fits(TINY, just, way)
        assert not fits(TINY, replace(just, memory_bytes=need / 0.92 - 1), way)


@pytest.mark.parametrize(
    ("key", "devices", "batch", "mbu"),
    [
        ("h100-sxm", 2, 64, 54),
        ("h100-sxm", 2, 1024, 20),
        ("b200-hgx", 1, 256, 46),
        ("b200-hgx", 2, 256, 30),
    ],
)
def test_bandwidth_used_by_measured_points(key: str, devices: int, batch: int, mbu: int):
    """research/cost.md, the check against measurements, in per cent."""
    (point,) = [
        one
        for one in POINTS
        if (one.accelerator, one.devices, round(one.batch)) == (key, devices, batch)
    ]
    found = distance(
        MODEL,
        silicon(key),
        serving_of(point, input_tokens=PROMPT),
        PHYSICS,
        tok_per_s=point.tok_per_s / devices,
        j_per_token=None,
    )
    assert round(100 * found.mbu_ratio) == mbu
