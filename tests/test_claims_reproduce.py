"""Published results recomputed from what they cite, and the verb that fails when one is missed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.claims import reproduce
from harness.cli import main
from harness.cost.catalogue_files import load

ROWS = reproduce.rows(load())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group} {row.label}"[:60])
def test_a_published_number_is_met_within_its_tolerance(row):
    assert row.agrees, f"ours {row.ours}, theirs {row.theirs}: {row.error_ratio:+.2%}"
    assert row.tolerance_ratio <= 0.10


def test_the_promised_results_are_there():
    groups = {row.group for row in ROWS}
    for name in ("InferenceX", "MLPerf Endpoints", "ML.ENERGY", "Epoch", "Calibration", "gpt-oss"):
        assert any(group.startswith(name) for group in groups), name
    assert sum(row.group.startswith("ML.ENERGY") for row in ROWS) == 39


def test_a_miss_is_seen():
    row = ROWS[0]
    assert not replace(row, ours=row.theirs * (1.01 + row.tolerance_ratio), rounding=0).agrees


def run(capsys, *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        main(["claims", "--reproduce", *arguments])
    return left.value.code, capsys.readouterr().out


def test_the_verb_prints_ours_theirs_and_the_error(capsys):
    code, out = run(capsys)
    assert code == 0
    assert f"{len(ROWS)} numbers, 0 missed" in out
    assert "+4.78%  cost a year, IT lasting 5 years" in out
    _, whole = run(capsys, "--all")
    assert whole.count("h100-sxm x2") > out.count("h100-sxm x2")


def test_the_verb_s_json(capsys):
    code, out = run(capsys, "--json")
    found = json.loads(out)
    assert (code, found["missed"]) == (0, 0)
    assert found["rows"][0]["agrees"] is True


def test_the_verb_fails_when_a_result_is_missed(capsys, tmp_path):
    """With a wrong static power in the catalogue, the calibration no longer agrees with it."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        '[accelerators.h100-sxm]\nstatic_w = { value = 100, source = "joulemark-fit" }\n'
    )
    code, out = run(capsys, "--catalogue", str(wrong))
    assert code == 1
    assert "MISSED" in out
