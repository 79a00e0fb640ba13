"""The HTML report: one file, nothing from the network, every chart with data, units and words."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_runs import ENERGY, GOLDEN, folders, golden, record, side

from exporters._chart_data import Band, Chart, Line
from exporters._charts import figure
from exporters._forest import Change, forest
from exporters._of_runs import Anchor, front
from exporters._scale import thinned, ticks
from exporters._waterfall import waterfall
from exporters.html import Html, history_page, page
from harness.cli import _report_parts as parts
from harness.compare.comparison import compare
from harness.history import add, series
from harness.record import Finding

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Collects what a page is made of, and checks that tags close in order."""

    VOID = ("meta", "link", "br", "line", "rect", "path", "circle", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])
        if tag not in self.VOID or tag == "circle" or tag in {"rect", "path"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def single() -> str:
    return page([(golden(), GOLDEN)])


def many(count: int) -> str:
    return page([(record(f"run-{i}", 0.8 + i / count, minute=i), None) for i in range(count)])


def test_the_page_is_well_formed_and_asks_for_nothing(single):
    found = Page(single)
    assert not found.named("script")
    assert not found.named("img")
    assert [one["href"] for one in found.named("link")] == ["data:,"]
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", single)
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1)", single)
    assert len(found.ids) == len(set(found.ids))


def test_findings_and_provenance_come_before_the_pictures(single):
    places = [single.index(f'id="{name}"') for name in ("findings", "provenance", "run0-power")]
    assert places == sorted(places)


def test_every_chart_has_data_units_and_a_text_alternative(single):
    figures = re.findall(r"<figure.*?</figure>", single, re.DOTALL)
    assert len(figures) == 5
    for one in figures:
        assert 'role="img"' in one
        description = re.search(r"<desc[^>]*>(.*?)</desc>", one).group(1)
        assert "points from" in description
        assert re.search(r"x: [^;]+\(s\); y: .+(\(W\)|/s\)|\(%\))", description)
        assert one.count("<tr>") > 2
        assert re.search(r'<path d="M[\d.]+,[\d.]+ L', one)
        assert "nan" not in one.lower()


def test_cards_name_boundary_basis_interval_and_kind(single):
    first = re.search(r'<div class="card">energy per output token.*?</div>', single).group(0)
    for words in ("3.609 J/token", "3.606 … 3.613", "boundary: gpu", "EMULATED", "basis: output"):
        assert words in first


def test_text_of_others_is_escaped():
    nasty = golden()
    nasty.findings.append(
        Finding(code="x", severity="warning", message="<script>alert(1)</script> & co")
    )
    nasty.provenance["engine"]["version"] = "<img src=x>"
    text = page([(nasty, None)])
    assert "<script>" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    Page(text)


def test_a_thousand_runs_are_one_page_of_a_few_megabytes():
    text = many(1000)
    found = Page(text)
    assert len(text.encode()) < 6e6
    assert len(found.named("figure")) >= 4
    assert text.count("run-999") >= 1
    assert "tok/s per consumed MW" in text


def test_modelled_and_measured_runs_never_share_a_front():
    runs = [(record(f"m{i}", 1 + i / 10), None) for i in range(3)]
    runs += [(record(f"e{i}", 1 + i / 10, kind="modelled"), None) for i in range(3)]
    text = page(runs)
    assert "front, measured" in text
    assert "front, MODELLED" in text


def test_published_anchors_are_grey_and_labelled():
    runs = [(record(f"r{i}", 1 + i / 10), None) for i in range(3)]
    anchor = Anchor(chart="joules", label="somebody, 2026-01", x=30.0, y=3.0)
    text = page(runs, anchors=[anchor])
    assert "published: somebody, 2026-01" in text
    assert 'class="d9"' in text


def test_the_exporter_writes_the_page_into_the_folder(tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN, folder)
    path = Html().export(golden(), folder)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=30))
def test_no_point_beats_one_of_the_front(points):
    for lower in (True, False):
        kept = front(points, lower=lower)
        for x, y in kept:
            better = [
                one for one in points if one[0] >= x and (one[1] < y if lower else one[1] > y)
            ]
            assert not better
        assert kept == sorted(kept)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low, span):
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-6 * span <= one <= low + span * (1 + 1e-6) for one in found)


def test_thinning_keeps_spikes():
    points = [(float(i), 0.0) for i in range(10_000)]
    points[7777] = (7777.0, 99.0)
    kept = thinned(points)
    assert len(kept) <= 700
    assert (7777.0, 99.0) in kept


def test_a_chart_of_one_point_can_be_drawn():
    chart = Chart(
        name="c", title="t", about="a", x_label="x (s)", y_label="y (W)",
        lines=[Line(name="l", points=[(1.0, 1.0)], dots=True)],
    )  # fmt: skip
    assert "nan" not in figure(chart)


def test_a_waterfall_stacks_up_to_its_total_and_names_what_is_missing():
    parts = {"energy": 0.5, "cooling": 0.25, "server": None}
    text = waterfall("w", "Cost", "Where it goes.", "USD", parts)
    Page(text)
    heights = [float(one) for one in re.findall(r'height="([\d.]+)" class="d', text)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)
    assert heights[2] == pytest.approx(heights[0] + heights[1], rel=0.01)
    assert "without: server" in text
    assert "energy: 0.5" in re.search(r"<desc[^>]*>(.*?)</desc>", text).group(1)
    assert waterfall("w", "Cost", "Where it goes.", "USD", {"energy": None}) == ""


def test_a_report_of_one_run_has_its_cost_and_its_distance_from_physics(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", [1.0]))
    done = joulemark("report", "base-0", "-o", "r.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    Page(text)
    assert 'id="cost"' in text
    assert "How far is that from physics?" in text
    assert "IT energy" in text


def test_the_verb_writes_html_markdown_and_a_comparison(joulemark, tmp_path: Path):
    round_ = [0.99, 1.0, 1.01, 1.005, 0.995]
    folders(tmp_path / "base", side("base", round_))
    folders(tmp_path / "cand", side("cand", [1.1 * one for one in round_], start=1))
    done = joulemark("report", "cand", "--against", "base", "-o", "r.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    Page(text)
    assert "worse: " in text
    assert ENERGY in text
    shown = joulemark("report", "cand", "--against", "base", "--format", "markdown")
    assert shown.stdout.startswith("### joulemark: worse")
    assert "| cand-4 | MEASURED |" in shown.stdout


def test_a_file_of_anchors_that_is_none_is_refused(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", [1.0]))
    (tmp_path / "a.json").write_text(json.dumps([{"chart": "pie", "label": "l", "x": 1, "y": 1}]))
    done = joulemark("report", "base-0", "--anchors", "a.json")
    assert done.returncode == 2
    assert "'pie'" in done.stderr


def compared() -> str:
    """A comparison, a throttled run, published points and invalid runs on one page."""
    base, cand = side("base", [1.0, 1.01, 0.99]), side("cand", [1.1, 1.12, 1.09], start=1)
    cand.runs[0].record.findings.append(Finding(code="x", severity="invalid", message="late"))
    found = compare(base, cand, allow=["invalid"])
    shown = parts.comparison(found)
    runs = [(run.record, None) for run in (*base.runs, *cand.runs)]
    anchors = [Anchor(chart="joules", label="somebody", x=20.0 + i, y=3.0 + i) for i in range(3)]
    return page(runs, anchors=anchors, lead=[(shown.name, shown.heading, shown.html)])


def historic(where: str) -> str:
    """Two series, one with a change of level."""
    add(side("old", [1.0, 1.01, 0.99, 1.005, 0.995, 1.0]).runs, where)
    add(side("new", [1.2, 1.21, 1.19, 1.205, 1.195, 1.2], start=100).runs, where)
    add(side("e", [1.0], kind="emulated").runs, where)
    found = series(where, metric=ENERGY)
    return history_page([{**dataclasses.asdict(one), "title": one.title} for one in found])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium")
@pytest.mark.parametrize(
    ("kind", "figures"), [("one", 5), ("many", 4), ("compared", 5), ("history", 2)]
)
def test_chromium_shows_it_without_an_error_or_a_request(tmp_path: Path, single, kind, figures):
    """The net log names every request a page made; the console goes to stderr."""
    path = tmp_path / "report.html"
    pages = {
        "one": lambda: single,
        "many": lambda: many(60),
        "compared": compared,
        "history": lambda: historic(str(tmp_path / "store")),
    }
    text = pages[kind]()
    Page(text)
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={tmp_path / 'net.json'}", "--net-log-capture-mode=Everything",
            "--virtual-time-budget=2000", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<figure") == figures
    # Every picture has words for those who do not see it.
    assert done.stdout.count('role="img"') == done.stdout.count("<desc") == figures
    urls = set(re.findall(r'"url":"([^"]+)"', (tmp_path / "net.json").read_text()))
    outside = {
        one for one in urls
        if not one.startswith(("file:", "data:", "chrome:", "chrome-extension:", "about:"))
    }  # fmt: skip
    # Chromium's own calls home, which no page can cause, do not count.
    assert not {one for one in outside if "google" not in one and "gvt1" not in one}, outside


def test_a_comparison_is_drawn_with_its_thresholds_and_intervals():
    rows = [
        Change(name="a_j", kind="EMULATED", percent=10, low=8, high=12, threshold=2, word="worse"),
        Change(name="b_s", percent=-1, low=None, high=None, threshold=5, word="cannot tell"),
    ]
    text = forest("f", "Changes", "What changed.", rows)
    Page(text)
    said = re.search(r"<desc[^>]*>(.*?)</desc>", text).group(1)
    assert "a_j (EMULATED): worse, +10.00 %, interval +8.00 to +12.00 %" in said
    assert "b_s: cannot tell, -1.00 %, no interval, matters from 5 %" in said
    assert ">worse (EMULATED)</text>" in text
    # The shaded stretch reaches as far to either side of no change.
    zero = float(re.search(r'<line x1="([\d.]+)"[^>]*class="axis"', text).group(1))
    band = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', text)
    assert float(band.group(1)) + float(band.group(2)) / 2 == pytest.approx(zero, abs=0.2)
    assert text.count('class="whisker') == 1


def test_invalid_runs_are_shown_and_left_out_of_the_front():
    runs = [(record(f"r{i}", 1 + i / 10), None) for i in range(3)]
    best = record("spoilt", 0.5)
    best.findings.append(Finding(code="x", severity="invalid", message="late"))
    with_it = page([*runs, (best, None)])
    assert "runs marked invalid, measured" in with_it
    front_of = r'<path d="(M[^"]+)" class="s0"'
    assert len(re.search(front_of, with_it).group(1).split("L")) == 1


def test_throttling_is_marked_where_it_may_have_been():
    one = golden()
    gpu = {"throttle_counters": {"hw_thermal": 1}}
    one.provenance["power"] = {
        "at_start": {"nvml": {"gpus": {"GPU-1": gpu}}},
        "facts_at_stop": {"nvml": {"gpus": {"GPU-1": {"throttle_counters": {"hw_thermal": 2}}}}},
    }
    text = page([(one, GOLDEN)])
    assert 'class="band alarm"' in text
    assert "Throttled during the run: hw_thermal on GPU-1." in text
    del one.provenance["power"]
    plain = page([(one, GOLDEN)])
    assert 'class="band alarm"' not in plain
    assert "no throttle counter was read" in plain


def test_names_of_stretches_never_lie_on_each_other():
    bands = [Band(name=f"a long name {i}", start=i / 10, end=9.0) for i in range(4)]
    chart = Chart(
        name="c", title="t", about="a", x_label="x (s)", y_label="y (W)",
        lines=[Line(name="l", points=[(0.0, 1.0), (10.0, 2.0)])], bands=bands,
    )  # fmt: skip
    text = figure(chart)
    rows = re.findall(r'<text x="[\d.]+" y="(\d+)" class="small">a long', text)
    assert len(set(rows)) == 4


def test_published_points_of_the_catalogue_can_stand_beside_the_runs(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", [1.0, 1.1]))
    done = joulemark("report", "runs", "--anchors", "published", "-o", "r.html")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    Page(text)
    assert "published: ML.ENERGY v3, gpt-oss-120b on vLLM, h100-sxm x1" in text
    assert ">h100-sxm x1</text>" in text


def test_markdown_says_what_the_page_shows(joulemark, tmp_path: Path):
    shutil.copytree(GOLDEN, tmp_path / "runs" / "golden")
    done = joulemark("report", "golden", "--format", "markdown")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for heading in (
        "## Findings", "## Where it comes from", "## What a token costs",
        "## How far is that from physics?", "### Power over time", "### Time to first token",
        "## All metrics",
    ):  # fmt: skip
        assert f"{heading}\n" in text
    assert "Power: **EMULATED**" in text
    assert "| energy per output token (gpu) | 3.609 J/token | 3.606 … 3.613 |" in text
    assert "points from" in text


def test_a_thousand_runs_begin_with_their_pictures():
    text = many(1000)
    assert text.index('id="pareto"') < text.index('id="runs"')
    assert "The first 50 of 1000" in text
    assert "Nothing to draw" not in text
