"""Claims: recomputed within one per cent, verdicts from arithmetic, own runs in their place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cost_runs import folder, record

from harness.claims import recompute as claims
from harness.claims.formulas import FORMULAS, owning_shares
from harness.cli import EXIT_BAD_INPUT, main
from harness.cost.catalogue_files import load
from harness.cost.point import of_run
from harness.errors import ConfigError

CATALOGUE = load()
DATA = claims.evidence(CATALOGUE)
CLAIMS = {one.id: one for one in claims.read(CATALOGUE)}


def judged(key: str, *runs):
    return claims.judge(CLAIMS[key], DATA, runs)


def values(key: str, formula: str) -> list[float]:
    found = judged(key)
    return [
        result.value
        for case, result in zip(CLAIMS[key].cases, found.cases, strict=True)
        if case["formula"] == formula
    ]


def test_ten_times_per_megawatt_holds_for_one_pair_on_one_basis():
    """research/benchmarks.md, section 5: 10.4 and 9.2 against H100, 7.1 and 6.3 against H200."""
    found = values("gb200-10x-per-mw", "per_megawatt_ratio")
    assert found == pytest.approx([10.4, 9.2, 7.1, 6.3, 4.3, 2.9], rel=0.01)
    verdict = judged("gb200-10x-per-mw")
    assert verdict.verdict == "holds only if"
    (condition,) = verdict.only_if
    for word in ("peak", "April 2026", "H100", "1k/1k", "provisioned"):
        assert word in condition


def test_measured_tokens_per_joule_of_b200_over_h100():
    found = values("ours-b200-per-joule", "tokens_per_joule_ratio")
    # Printed to one digit in research/benchmarks.md 4.2; 2.169 is its 2.2 before rounding.
    assert found == pytest.approx([2.801, 2.360, 2.617, 2.169], rel=1e-3)
    assert [round(one, 1) for one in found] == [2.8, 2.4, 2.6, 2.2]
    assert judged("ours-b200-per-joule").verdict == "reproduced"


def test_thirty_five_times_is_of_deepseek_and_gpt_oss_has_no_such_data():
    (deepseek, proxy) = values("gb300-35x-gpt-oss", "price_ratio")
    assert deepseek == pytest.approx(35.5, rel=0.01)
    assert proxy == pytest.approx(1.0, rel=0.01)
    found = judged("gb300-35x-gpt-oss")
    assert found.verdict == "not supported by its data"
    assert not any(case.counts for case in found.cases)
    assert "never had a GB300 configuration" in found.claim.note
    on_its_own = judged("gb300-35x-deepseek")
    assert on_its_own.verdict == "holds only if"
    assert "multi-token prediction" in on_its_own.only_if[0]


def test_fifty_times_per_megawatt_depends_on_the_basis():
    found = values("gb300-50x-per-mw-deepseek", "per_megawatt_ratio")
    assert found == pytest.approx([54.9, 43.1], rel=0.01)


def test_two_cents_depend_on_tokens_and_price():
    found = judged("two-cents-per-mtok")
    assert [case.holds for case in found.cases] == [True, True, False, False]
    assert found.cases[3].value == pytest.approx(2 * found.cases[0].value)


def test_nvlink_is_both_directions():
    found = judged("nvlink-1800")
    assert [case.value for case in found.cases] == [1800, 900]
    assert found.only_if == ("both directions added: 18 links of 100 GB/s",)


def test_five_times_in_two_months_stands_under_a_condition_no_number_tests():
    found = judged("trtllm-5x-in-two-months")
    assert found.cases[0].value == pytest.approx(5.5)
    assert found.verdict == "holds only if"
    assert "speculative decoding" in found.only_if[-1]


def test_electricity_is_7_to_12_and_power_linked_20_to_37_per_cent_of_owning():
    """research/cost.md 1.4 prints 6.7 to 12.2 and 20.3 to 37.1 over twelve accelerators."""
    shares = owning_shares(CATALOGUE)
    assert len(shares) == 12
    electricity, linked = zip(*shares.values(), strict=True)
    assert [min(electricity), max(electricity)] == pytest.approx([0.067, 0.122], rel=0.01)
    assert [min(linked), max(linked)] == pytest.approx([0.203, 0.371], rel=0.01)
    assert judged("ours-electricity-share").verdict == "reproduced"
    assert judged("ours-power-linked-share").verdict == "reproduced"


def test_modelled_and_proxy_cases_are_shown_and_never_counted():
    for one in CLAIMS.values():
        for case in claims.judge(one, DATA).cases:
            if case.kind in {"modelled", "proxy"}:
                assert not case.counts


def test_a_verdict_follows_its_data():
    """The same claim at another published value: none, some or all of its cases bear it out."""
    claim = CLAIMS["nvlink-1800"]
    assert claims.judge(replace(claim, low=5000), DATA).verdict == "not supported by its data"
    assert claims.judge(replace(claim, low=800), DATA).verdict == "reproduced"


def test_every_formula_of_the_data_exists_and_none_is_idle():
    used = {case["formula"] for one in CLAIMS.values() for case in one.cases}
    assert used == set(FORMULAS)


def test_mixed_token_bases_and_power_bases_are_refused():
    mixed = {**CLAIMS["gb200-10x-per-mw"].cases[0], "baseline": "gb200-mlperf"}
    claim = replace(CLAIMS["gb200-10x-per-mw"], cases=(mixed,))
    with pytest.raises(ConfigError, match="counts total tokens, gb200-mlperf counts output"):
        claims.judge(claim, DATA)
    lacking = {**CLAIMS["gb200-10x-per-mw"].cases[0], "power_basis": "nvidia-dgx"}
    with pytest.raises(ConfigError, match="two bases are never mixed"):
        claims.judge(replace(claim, cases=(lacking,)), DATA)


def test_an_own_run_stands_in_for_the_published_point_of_its_accelerator():
    run = of_run(record(devices=2), CATALOGUE, basis="total")
    found = judged("gb200-10x-per-mw", run)
    (first, *_) = found.own_cases
    assert first.value == pytest.approx((52495.8 / 2.10) / (4000 / 1.73))
    assert first.kind == "yours"
    assert "run-1 (4,000.0 total tok/s a device; its lengths are 300/1000)" in first.conditions
    assert found.verdict == judged("gb200-10x-per-mw").verdict


def test_own_joules_stand_in_where_the_run_is_fast_enough():
    run = of_run(record(), CATALOGUE)  # 0.3 J, 40 tok/s/user: a gap of 25 ms
    found = judged("ours-b200-per-joule", run)
    assert [case.value for case in found.own_cases] == pytest.approx(
        [0.3 / 0.0438, 0.3 / 0.0397], rel=2e-3
    )


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (record(power_kind="emulated"), "its power is emulated"),
        (record(power_kind="modelled"), "its power is modelled"),
        (record(model="meta/llama"), "its model is 'meta/llama'"),
        (record(device_name="a toaster"), "its accelerator is not in the catalogue"),
        (record(device_name="NVIDIA L40S"), "no case has its accelerator"),
    ],
)
def test_a_run_that_cannot_stand_in_is_named_with_the_reason(run, reason: str):
    found = judged("gb200-10x-per-mw", of_run(run, CATALOGUE, basis="total"))
    assert found.own_cases == ()
    assert reason in found.unused[0]


def joulemark(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


def test_the_verb_prints_every_claim_with_its_verdict(capsys):
    code, out, _ = joulemark(capsys, "claims")
    assert code == 0
    for key in CLAIMS:
        assert f"\n{key}: " in out
    assert out.count("verdict: ") == len(CLAIMS)


def test_the_verb_takes_ids_and_runs_and_gives_json(capsys, tmp_path):
    run = folder(tmp_path, record())
    code, out, _ = joulemark(capsys, "claims", "gb200-10x-per-mw", "--with", run, "--json")
    assert code == 0
    (one,) = json.loads(out)["claims"]
    assert one["verdict"] == "holds only if"
    assert one["cases"][0]["value"] == pytest.approx(10.37, rel=1e-3)
    assert {case["kind"] for case in one["with_your_runs"]} == {"yours"}


def test_an_unknown_claim_is_refused(capsys):
    code, _, err = joulemark(capsys, "claims", "free-lunch")
    assert code == EXIT_BAD_INPUT
    assert "there is no claim 'free-lunch'; choose one of: gb200-10x-per-mw" in err


def test_the_limits_ratios_at_each_interactivity():
    """research/cost.md, iso-interactivity: per MW, and of GB300 per dollar."""
    found = values("gb200-10x-per-mw", "limit_per_megawatt_ratio")
    assert found == pytest.approx([3.0, 7.6, 16.5], rel=0.02)
    found = values("gb300-35x-gpt-oss", "limit_price_ratio")
    assert found == pytest.approx([2.6, 14.6], rel=0.02)
