"""`docs/cost.md` says what the program prints: its outputs, its defaults, its numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.claims.formulas import owning_shares
from harness.claims.recompute import evidence
from harness.claims.reproduce import calibration
from harness.cli import main
from harness.cost.catalogue_files import load, measured_points
from harness.cost.document import defaults_markdown

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cost.md").read_text(encoding="utf-8")
OUTPUTS = re.findall(r"^```console\n\$ joulemark (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@pytest.mark.parametrize(("command", "printed"), OUTPUTS, ids=[one[0] for one in OUTPUTS])
def test_an_output_on_the_page_is_what_its_command_prints(capsys, command: str, printed: str):
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    assert lines(capsys.readouterr().out) == lines(printed)


def test_the_page_has_outputs():
    assert len(OUTPUTS) == 3


def test_the_table_of_defaults_is_current():
    (table,) = re.findall(r"<!-- defaults -->\n(.*?)<!-- /defaults -->", PAGE, re.DOTALL)
    assert table == defaults_markdown(load())


def test_every_row_of_the_defaults_has_a_source_and_a_date():
    for row in defaults_markdown(load()).splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert re.search(r"20\d\d", cells[4]), row
        assert cells[6], row


def test_the_numbers_in_the_text_are_computed_ones():
    shares = owning_shares(load()).values()
    electricity, linked = ([round(100 * one[i]) for one in shares] for i in (0, 1))
    assert f"{min(electricity)} to {max(electricity)} per cent of" in PAGE
    assert f"{min(linked)} to {max(linked)} with the facility" in PAGE
    fits = calibration()
    assert f"off by\n{fits['h100-sxm'].held_out_rmse_w:.0f} W (root mean square)" in PAGE
    assert f"by {fits['b200-hgx'].held_out_rmse_w:.0f} W" in PAGE
    points, _ = measured_points()
    assert f"holds all {len(points)} against it" in PAGE
    single = [p.device_w for p in points if (p.accelerator, p.devices) == ("h100-sxm", 1)]
    assert (round(min(single), -1), round(max(single), -1)) == (550, 690)
    physics = evidence(load()).catalogue.physics_figures.figures
    for name, text in (
        ("memory_pj_per_bit", "3.9 pJ per memory bit"),
        ("fp8_pj_per_flop", "0.052 pJ per eight-bit"),
        ("link_pj_per_bit", "5.5 pJ per link bit"),
    ):
        assert f"{physics[name].value:.2g} " in text
        assert text in PAGE
