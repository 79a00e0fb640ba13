"""`joulemark cost` as a user sees it: tables, one JSON document, one-line refusals, a picture."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
from cost_runs import folder, record

from harness.cli import EXIT_BAD_INPUT, main
from harness.cost.catalogue_files import load
from harness.cost.document import defaults_markdown


def joulemark(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out, err


def test_the_published_point_prints_the_research_split(capsys):
    code, out, _ = joulemark(capsys, "cost", "--published", "h100-sxm/1/64", "--sources")
    assert code == 0
    for line in (
        "IT energy               0.0145    8.1%",
        "facility for the watts  0.0342   19.0%",
        "total                   0.1805  100.0%",
        "power measured (boundary gpu)",
        "EIA, US industrial electricity",
    ):
        assert line in out


def test_runs_side_by_side_are_one_json_document(capsys, tmp_path):
    names = [
        folder(tmp_path, record(run_id="a")),
        folder(tmp_path, record(run_id="b", power_kind="emulated")),
    ]
    code, out, err = joulemark(capsys, "cost", *names, "--json")
    assert (code, err) == (0, "")
    cases = json.loads(out)["cases"]
    assert [case["label"] for case in cases] == ["a", "b"]
    assert [case["power_kind"] for case in cases] == ["measured", "emulated"]


def test_an_emulated_run_s_table_says_so_at_each_joule(capsys, tmp_path):
    _, out, _ = joulemark(capsys, "cost", folder(tmp_path, record(power_kind="emulated")))
    assert "joules per output token (device: emulated; rows below it: computed)" in out
    assert "power emulated)" in out
    assert "power_not_measured" in out


def test_own_figures_win(capsys):
    arguments = ("--published", "h100-sxm/1/64", "--json", "--price", "2.5", "--pue", "1.5")
    more = ("-s", "wacc_ratio=0.05", "--all-in-kw", "1.5", "--host-w", "100", "--demand", "10")
    _, out, _ = joulemark(capsys, "cost", *arguments, *more)
    inputs = json.loads(out)["cases"][0]["inputs"]
    found = {
        name: inputs[name]["value"]
        for name in ("rate_usd_per_hour", "pue", "wacc_ratio", "all_in_w", "other_active_w")
    }
    assert found == {
        "rate_usd_per_hour": 2.5,
        "pue": 1.5,
        "wacc_ratio": 0.05,
        "all_in_w": 1500,
        "other_active_w": 100,
    }
    assert inputs["pue"]["grade"] == "yours"


def test_mlperf_endpoints_nameplate_stands_beside(capsys):
    _, out, _ = joulemark(
        capsys, "cost", "--published", "h100-sxm/1/64", "--tdp-sum-w", "800", "--cooling", "air"
    )
    assert "MLPerf Endpoints nameplate, W a device" in out
    assert "1200" in out


def test_a_purchase_is_priced_from_the_bottom(capsys):
    _, out, _ = joulemark(
        capsys, "cost", "--published", "h100-sxm/1/64", "--purchase", "30000", "--json"
    )
    (case,) = json.loads(out)["cases"]
    assert case["rate_includes_power"] is False
    assert case["inputs"]["rate_usd_per_hour"]["value"] == pytest.approx(
        30000 * 0.250456 / 8760, rel=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pue", "0.9"), "pue is 0.9; it must be finite and at least 1"),
        (("--price", "-1"), "usd_per_hour is -1; it must be finite and at least 0"),
        (("--accelerator", "h1000"), "there is no accelerator 'h1000'"),
        (("--utilisation", "0"), "more than 0 and at most 1"),
        (("--utilisation", "1.5"), "more than 0 and at most 1"),
        (("--price", "2", "--currency", "EUR"), "the price is in EUR, the site ai-liquid in USD"),
        (("--published", "h100-sxm/1/65"), "there is no published point"),
        (("-s", "pue=low"), "'low' is no number"),
        (("--hours", "1-5"), "--hours says nothing without --hourly"),
        (("--fans-w", "50"), "--fans-w says nothing without --parts-w"),
        (("--accelerator", "a100-sxm"), "was measured on h100-sxm, not on a100-sxm"),
        (("--picture", "cost.gif"), "end it in one of .png, .svg, .pdf"),
    ],
)
def test_nonsense_is_one_line_that_names_the_limit(capsys, arguments, said: str):
    point = () if "--published" in arguments else ("--published", "h100-sxm/1/64")
    code, out, err = joulemark(capsys, "cost", *point, *arguments)
    assert code == EXIT_BAD_INPUT
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_nothing_to_price_is_refused(capsys):
    code, _, err = joulemark(capsys, "cost")
    assert code == EXIT_BAD_INPUT
    assert "there is nothing to price; name a run" in err


def test_the_catalogue_can_be_listed(capsys):
    _, out, _ = joulemark(capsys, "cost", "--list")
    assert "h100-sxm" in out
    assert "power basis inferencex-2026-04: utility power" in out
    _, defaults, _ = joulemark(capsys, "cost", "--list", "--sources")
    assert defaults == defaults_markdown(load())


def test_a_picture_without_matplotlib_is_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    picture = str(tmp_path / "cost.png")
    code, _, err = joulemark(capsys, "cost", "--published", "h100-sxm/1/64", "--picture", picture)
    assert code == EXIT_BAD_INPUT
    assert 'pip install "joulemark[report]"' in err


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra `report` is not installed"
)
def test_the_waterfall_is_drawn(capsys, tmp_path):
    picture = tmp_path / "cost.svg"
    code, _, _ = joulemark(
        capsys, "cost", "--published", "h100-sxm/1/64", "--picture", str(picture)
    )
    assert code == 0
    assert "facility for the watts" in picture.read_text() or picture.stat().st_size > 5000
