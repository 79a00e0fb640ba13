"""The guided walk: its steps, what it says of electricity, what it refuses to compare."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from cost_runs import folder, record

from harness.claims import recompute as claims
from harness.cli import EXIT_BAD_INPUT, main
from harness.cost.case import Choice, build
from harness.cost.catalogue_files import load, measured_points
from harness.cost.point import of_published, of_run
from harness.cost.split import split
from harness.explain.changes import with_fans
from harness.explain.parts import Step, Walk
from harness.explain.text import markdown, page
from harness.explain.walk import walk

CATALOGUE = load()
DATA = claims.evidence(CATALOGUE)
POINTS, PROMPT = measured_points()
H100 = next(p for p in POINTS if (p.accelerator, p.devices, round(p.batch)) == ("h100-sxm", 1, 64))


def case(site: str = "ai-liquid", **more):
    point = of_published(H100, CATALOGUE.sources["mlenergy-v3"], input_tokens=PROMPT)
    return build(CATALOGUE, point, Choice(site=site, **more))


@pytest.fixture(scope="module")
def h100() -> Walk:
    return walk(case(), DATA)


def of(run):
    return build(CATALOGUE, of_run(run, CATALOGUE), Choice())


def step(found: Walk, words: str) -> Step:
    (one,) = [one for one in found.steps if words in one.title]
    return one


def test_the_walk_goes_from_joules_to_dollars_megawatts_and_the_sources(h100: Walk):
    found = h100
    assert [one.title.split("?")[0][:24] for one in found.steps] == [
        "What does one token draw",
        "And in the server around",
        "And in cooling and power",
        "What does the electricit",
        "What does the building c",
        "And the whole",
        "How many tokens does a m",
        "What is least certain",
        "How far is that from phy",
        "Which accelerator, if ea",
        "What would change it",
        "Where do the figures com",
    ]
    for one in found.steps[:6]:
        assert one.formula.startswith("F")
        assert one.worked


def test_each_step_shows_its_numbers(h100: Walk):
    found = h100
    assert "688.2 W / 2,571.9 tok/s = 0.2676 J" in step(found, "one token draw").worked
    assert "0.6201 J x 1.15 = 0.7131 J" in step(found, "cooling").worked
    assert "0.0171 USD" in step(found, "electricity cost").worked
    whole = step(found, "the whole")
    assert whole.grids[0].rows[-1][:3] == ("total", "0.1805", "100.0%")


def test_it_says_what_electricity_is_by_today_s_sources(h100: Walk):
    text = " ".join(step(h100, "the whole").text)
    assert "Here electricity (with cooling and losses) is 9.4% of the total" in text
    assert "electricity is 7% to 12% of the cost of owning, over 12 accelerators" in text
    assert "20% to 37%" in text


def test_every_input_a_step_uses_is_in_the_list_of_sources(h100: Walk):
    found = h100
    listed = {row[0] for row in step(found, "figures come from").grids[0].rows}
    made = case()
    for one in found.steps:
        assert {name for name in one.inputs if name in made.figures} <= listed
    for row in step(found, "figures come from").grids[0].rows:
        assert row[3], f"{row[0]} has no date"


def test_the_distance_to_physics_is_shown(h100: Walk):
    found = step(h100, "physics")
    assert found.grids[0].rows[0][3] == "71% of the limit"
    assert "Memory bandwidth is used to 71%" in found.text[0]


def test_accelerators_are_compared_at_one_interactivity_and_modelled_apart_from_measured():
    found = step(walk(case(), DATA, interactivity_tok_per_s=50), "Which accelerator")
    assert "50 tokens/s" in found.title
    heads = [grid.head[0].partition(":")[0] for grid in found.grids]
    assert heads == ["measured", "modelled", "modelled"]
    assert all("not calibrated" not in row for row in found.grids[1].rows)
    assert all(row[2] == "not calibrated" for row in found.grids[2].rows)
    assert "Fewest measured joules: b200-hgx" in found.text[1]


def test_no_measured_point_no_measured_table():
    found = step(walk(case(), DATA, interactivity_tok_per_s=1000), "Which accelerator")
    assert not any(grid.head[0].startswith("measured") for grid in found.grids)


def test_what_would_change_it_is_answered_from_the_table():
    found = step(walk(case("enterprise-air"), DATA), "change it")
    rows = {row[0]: row for row in found.grids[0].rows}
    (liquid,) = [row for name, row in rows.items() if "direct liquid" in name]
    (none,) = [row for name, row in rows.items() if "no cooling" in name]
    assert float(none[3]) < float(liquid[3]) < float(rows["as it is"][3])
    (cheap,) = [row for name, row in rows.items() if "cheaper tariff" in name]
    assert cheap[3] == rows["as it is"][3]
    assert float(cheap[1]) < float(rows["as it is"][1])
    for row in rows.values():
        for value, change in ((1, 2), (3, 4)):
            ratio = float(row[value]) / float(rows["as it is"][value]) - 1
            assert float(row[change].rstrip("%")) == pytest.approx(100 * ratio, abs=0.1)
    fewer = 1 - float(rows[next(n for n in rows if "b200-hgx" in n)][3]) / float(
        rows["as it is"][3]
    )
    assert f"({fewer:.0%} fewer)" in found.text[1]
    base, newest = (
        float(rows["as it is"][1]),
        float(next(r for n, r in rows.items() if "b200" in n)[1]),
    )
    assert f"({1 - newest / base:.0%} less)" in found.text[1]
    assert "b200-hgx" in found.text[1]


def test_a_point_of_no_known_accelerator_is_still_told_of_newer_ones():
    run = record(device_name="a toaster")
    found = step(walk(of(run), DATA), "change it")
    assert any("b200-hgx" in row[0] for row in found.grids[0].rows)
    on_b200 = step(walk(of(record(device_name="NVIDIA B200")), DATA), "change it")
    assert not any("b200-hgx" in row[0] for row in on_b200.grids[0].rows)


def test_other_fans_leave_what_computes_as_it_was():
    """Liquid cooling takes the fans' watts out; the rest of IT power stays."""
    inputs = case("ai-air").inputs
    before, after = split(inputs), split(with_fans(inputs, 0.02))
    assert after.it_w * (1 - 0.02) == pytest.approx(before.it_w * (1 - inputs.fan_ratio))
    assert after.it_w < before.it_w


@pytest.mark.parametrize("kind", ["emulated", "modelled"])
def test_power_that_is_not_measured_is_compared_with_no_measurement(kind: str):
    found = walk(of(record(power_kind=kind)), DATA)
    assert any(f"**{kind}**" in line for line in found.about)
    assert kind in found.steps[0].title
    assert "Not computed" in step(found, "physics").text[0]
    assert not any("b200" in row[0] for row in step(found, "change it").grids[0].rows)


def test_a_run_s_batch_follows_from_its_rates():
    """Little's law: 2000 tok/s over 40 for each user is 50 sequences."""
    found = step(walk(of(record()), DATA), "physics")
    assert "50 sequences" in found.text[0]
    other = step(walk(of(record(model="some-llama")), DATA), "physics")
    assert "Not computed" in other.text[0]
    named = step(walk(of(record(model="some-llama")), DATA, model_is_known=True), "physics")
    assert "50 sequences" in named.text[0]


def test_a_cpu_run_is_walked_with_what_there_is():
    run = record(boundary="cpu_package", power_kind="modelled", device_name=None, model="smollm2")
    found = walk(of(run), DATA)
    assert "not available" in {cell for row in step(found, "whole").grids[0].rows for cell in row}
    assert "left out" in step(found, "server around").worked
    assert markdown([found])


class Tables(HTMLParser):
    """Counts cells a row, and fails on a tag left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[int] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag == "tr":
            self.rows.append(0)
        if tag in {"td", "th"}:
            self.rows[-1] += 1
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(h100: Walk):
    text = page([h100])
    seen = Tables()
    seen.feed(text)
    assert seen.open == []
    assert len(seen.rows) > 40
    assert seen.links == []
    assert "<strong>measured</strong>" in text


def test_what_a_run_calls_itself_cannot_write_the_page():
    text = page([walk(of(record(run_id="<script>alert(1)</script>")), DATA)])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def joulemark(capsys, *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["explain", *arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_the_verb_explains_a_published_point_without_arguments(capsys, h100: Walk):
    code, out, _ = joulemark(capsys)
    assert code == 0
    assert out == markdown([h100])


def test_the_verb_writes_html_json_and_files(capsys, tmp_path):
    run = folder(tmp_path, record())
    _, out, _ = joulemark(capsys, run, "--format", "html")
    assert out.startswith("<!doctype html>")
    _, out, _ = joulemark(capsys, run, "--json")
    assert len(json.loads(out)["walks"][0]["steps"]) == 12
    target = tmp_path / "walk.md"
    _, out, _ = joulemark(capsys, run, "--format", "markdown", "--output", str(target))
    assert out == ""
    assert target.read_text().startswith("# What does a token cost?")


def test_a_file_that_cannot_be_written_is_said(capsys, tmp_path):
    code, _, err = joulemark(capsys, "--output", str(tmp_path / "no" / "where.md"))
    assert code == EXIT_BAD_INPUT
    assert "cannot be written (No such file or directory)" in err


@pytest.mark.parametrize("value", ["-5", "0"])
def test_nonsense_is_refused(capsys, value: str):
    code, _, err = joulemark(capsys, "--interactivity", value)
    assert code == EXIT_BAD_INPUT
    assert f"interactivity is {value}; it must be finite and more than 0" in err
