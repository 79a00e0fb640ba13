"""Comparing sets of runs: refusals by name, suspects, verdicts, exit codes, what is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from verdict_runs import ENERGY, GOLDEN, SPEED, folders, golden, record, side

from harness.compare.comparison import compare, defaults
from harness.compare.sets import StoredRun, find_runs, run_set
from harness.compare.text import advice, document, markdown
from harness.compare.thresholds import default_threshold, read_thresholds
from harness.errors import ConfigError, StoreError
from harness.junit import junit
from harness.record import Finding

ROUND = [0.99, 1.0, 1.01, 1.005, 0.995]


def parsed(data: bytes) -> ET.Element:
    return ET.fromstring(data)  # noqa: S314 - our own output


def times(factor: float) -> list[float]:
    return [one * factor for one in ROUND]


def word_of(found, key) -> str:
    return next(row.judged.word for row in found.rows if row.key == key)


def test_worse_better_same_cannot_tell():
    base = side("base", ROUND)
    worse = compare(base, side("cand", times(1.06), start=1))
    assert worse.word == "worse"
    assert {row.judged.word for row in worse.rows} == {"worse"}
    assert compare(base, side("cand", times(0.94), start=1)).word == "better"
    tight = [1, 1.0002, 0.9998, 1.0001, 0.9999]
    same = compare(side("base", tight), side("cand", tight[::-1], start=1))
    assert same.word == "same"
    wide = [0.9, 1.1, 1.0, 1.05, 0.95]
    open_ = compare(side("base", wide), side("cand", wide[::-1], start=1))
    assert open_.word == "cannot tell"
    assert all(row.judged.more_runs for row in open_.rows)


def test_runs_that_a_prefix_cache_helped_are_not_held_against_runs_that_it_did_not():
    cold = {"tokens__input": 1000, "tokens__input_cached": 0}
    warm = {"tokens__input": 1000, "tokens__input_cached": 880}
    base, cand = side("base", ROUND, **cold), side("cand", ROUND, start=1, **warm)
    with pytest.raises(ConfigError, match=r"served 0% .*\(base\) and 88% .*\(cand\)") as caught:
        compare(base, cand)
    assert "--allow input_cached" in caught.value.remedy
    allowed = compare(base, cand, allow=["input_cached"])
    assert any("input_cached" in finding.message for finding in allowed.findings)
    for cached in (90, None):
        like = {"tokens__input": 1000, "tokens__input_cached": cached}
        assert compare(base, side("cand", ROUND, start=1, **like)).word == "same"


def test_throughput_is_better_when_higher():
    found = compare(side("base", ROUND), side("cand", times(1.06), start=1))
    row = next(row for row in found.rows if row.key == SPEED)
    assert row.judged.effect.ratio == pytest.approx(1 / 1.06)
    assert row.judged.word == "worse"
    assert row.cand < row.base


def test_one_run_against_one_cannot_tell():
    found = compare(side("base", [1.0]), side("cand", [3.0], start=1))
    assert found.word == "cannot tell"
    assert found.rows[0].judged.effect.ratio == pytest.approx(3)
    assert found.rows[0].judged.effect.low is None


def test_measured_is_never_compared_with_emulated_whatever_is_allowed():
    base, cand = side("base", ROUND), side("cand", ROUND, kind="emulated")
    for allow in ([], ["power_kind"]):
        with pytest.raises(ConfigError, match="power_kind is measured in base-0") as caught:
            compare(base, cand, allow=allow)
        assert "never allowed" in caught.value.remedy


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"config__engine__model": "other"}, "model"),
        ({"config__workload__osl_tokens": 21}, "workload.osl_tokens"),
        ({"config__load__concurrency": 8}, "load.concurrency"),
        ({"config__window__kind": "run"}, "window.kind"),
        ({"provenance__machine__cpu": "another"}, "machine.cpu"),
    ],
)
def test_unlike_runs_are_refused_by_the_name_of_what_differs(changed, key):
    base, cand = side("base", ROUND), side("cand", ROUND, start=1, **changed)
    with pytest.raises(ConfigError, match=f"{key} is ") as caught:
        compare(base, cand)
    assert f"--allow {key}" in caught.value.remedy
    found = compare(base, cand, allow=[key])
    assert any(one.code == "unlike" and key in one.message for one in found.findings)


def gpu(name: str, limit: float, vbios: str = "1") -> dict:
    facts = {"name": name, "power_limit_w": limit, "vbios": vbios, "temperature_c": 40}
    return {"nvml": {"driver": "570", "gpus": {"GPU-1": facts}}}


def test_gpu_type_and_power_cap_must_agree():
    base = side("base", ROUND, provenance__power__at_start=gpu("H100", 700.0))
    for other, key in ((gpu("H200", 700.0), "gpu"), (gpu("H100", 500.0), "gpu_power_limit_w")):
        cand = side("cand", ROUND, provenance__power__at_start=other)
        with pytest.raises(ConfigError, match=f"{key} is "):
            compare(base, cand)


def test_a_boundary_that_differs_is_refused():
    one = golden()
    windows = json.loads(json.dumps(one.windows))
    windows[0]["energies"][0]["boundary"] = "gpu_module"
    other = dataclasses.replace(record("c"), windows=windows)
    with pytest.raises(ConfigError, match="boundary is gpu "):
        compare(side("base", ROUND), run_set("cand", [StoredRun(record=other)]))


def test_what_changed_is_named_and_what_always_varies_is_not():
    base = side(
        "base", ROUND, provenance__machine__kernel="6.1",
        provenance__power__at_start=gpu("H100", 700.0, "A"),
    )  # fmt: skip
    cand = side(
        "cand", ROUND, start=1, provenance__machine__kernel="6.8",
        provenance__engine__version="2", config__engine__threads=2,
        provenance__machine__load_average_1min=3.0,
        provenance__power__at_start=gpu("H100", 700.0, "B"),
    )  # fmt: skip
    found = {one.key: (one.base, one.cand) for one in compare(base, cand).suspects}
    assert found == {
        "machine.kernel": (("6.1",), ("6.8",)),
        "engine.version": (("None",), ("2",)),
        "engine.config.threads": (("(not recorded)",), ("2",)),
        "gpu.vbios": (("A",), ("B",)),
    }


def test_a_run_in_both_sets_or_twice_in_one_is_refused():
    base = side("base", ROUND)
    with pytest.raises(ConfigError, match="both sets"):
        compare(base, base)
    with pytest.raises(ConfigError, match="twice"):
        run_set("base", [base.runs[0], base.runs[0]])


def test_cut_short_and_invalid_runs_are_refused_unless_allowed():
    cut = dataclasses.replace(record("cut", minute=1), status="incomplete")
    bad = dataclasses.replace(
        record("bad", minute=1),
        findings=[Finding(code="power_gap", severity="invalid", message="a gap of 3 s")],
    )
    for one, key in ((cut, "incomplete"), (bad, "invalid")):
        cand = run_set("cand", [StoredRun(record=one)])
        with pytest.raises(ConfigError, match=one.run_id) as caught:
            compare(side("base", ROUND), cand)
        assert key in caught.value.remedy
        assert compare(side("base", ROUND), cand, allow=[key]).findings


def test_only_what_was_asked_for_is_judged():
    thresholds = {"ttft_s.p99": 0.1}
    found = compare(side("base", ROUND), side("cand", times(1.06), start=1), thresholds=thresholds)
    assert [row.key for row in found.rows] == ["ttft_s.p99"]
    assert found.rows[0].judged.word == "same"
    assert ENERGY in found.others


def test_a_metric_that_a_run_lacks_is_refused_by_name():
    lacking = record("lacking", minute=1)
    del lacking.metrics[ENERGY]
    cand = run_set("cand", [StoredRun(record=lacking)])
    with pytest.raises(ConfigError, match=f"lacking .* has no {ENERGY}"):
        compare(side("base", ROUND), cand, thresholds={ENERGY: 0.02})
    assert ENERGY not in defaults(side("base", ROUND), cand)


def test_a_metric_without_a_better_way_is_not_judged():
    with pytest.raises(ConfigError, match="neither more nor less"):
        compare(
            side("base", ROUND), side("cand", ROUND, start=1), thresholds={"gpu_average_w": 0.02}
        )


def test_the_advice_says_how_many_more_runs_or_that_no_number_would_do():
    one = compare(side("base", [1.0]), side("cand", [1.0], start=1)).rows[0].judged
    assert "at least five runs a side" in advice(one)
    wide = [0.9, 1.1, 1.0, 1.05, 0.95]
    open_ = compare(side("base", wide), side("cand", wide[::-1], start=1)).rows[0].judged
    assert f"about {open_.more_runs} more runs a side" in advice(open_)
    hopeless = dataclasses.replace(open_, more_runs=None)
    assert "not even 1,000" in advice(hopeless)


def test_sets_that_were_not_interleaved_are_flagged():
    codes = {
        one.code for one in compare(side("base", ROUND), side("cand", ROUND, start=100)).findings
    }
    assert "not_interleaved" in codes
    codes = {
        one.code for one in compare(side("base", ROUND), side("cand", ROUND, start=1)).findings
    }
    assert "not_interleaved" not in codes


def test_emulated_joules_are_called_so_everywhere():
    found = compare(
        side("base", ROUND, kind="emulated"), side("cand", ROUND, start=1, kind="emulated")
    )
    assert "EMULATED" in markdown(found)
    assert any(one.code == "power_not_measured" for one in found.findings)


def test_the_requests_of_a_run_widen_a_latencys_interval(tmp_path: Path):
    """Two runs that agree by chance, each of requests that scatter by half."""
    bases = side("base", [1.0, 1.0001])
    cands = side("cand", [1.0, 1.0001], start=1)
    sets = []
    for runs in (bases, cands):
        stored = []
        for one in runs.records:
            folder = tmp_path / one.run_id
            shutil.copytree(GOLDEN, folder)
            (folder / "run.json").write_bytes(one.to_json())
            lines = [json.loads(line) for line in (folder / "requests.jsonl").open()]
            for place, line in enumerate(lines):
                line["t_first_ns"] += (place % 7) * 20_000_000
            text = "\n".join(json.dumps(line) for line in lines) + "\n"
            (folder / "requests.jsonl").write_text(text)
            stored.append(StoredRun(record=one, folder=folder))
        sets.append(run_set(runs.label, stored))
    key = {"ttft_s.p50": 0.05}
    alone = compare(bases, cands, thresholds=key).rows[0].judged.effect
    both = compare(*sets, thresholds=key).rows[0].judged.effect
    assert both.high - both.low > 5 * (alone.high - alone.low)


def test_thresholds_are_read_or_refused():
    assert read_thresholds([f"{ENERGY}:2%", "ttft_s.p99:10 %"]) == {
        ENERGY: 0.02, "ttft_s.p99": 0.10,
    }  # fmt: skip
    for bad in ("gpu_j", "nonsense:2%", f"{ENERGY}:0%", f"{ENERGY}:2", f"{ENERGY}:1.2.3%", ENERGY):
        with pytest.raises(ConfigError):
            read_thresholds([bad])
    assert default_threshold("ttft_s.p99") == 0.10


def test_junit_fails_what_is_worse_and_skips_what_is_open():
    found = compare(side("base", ROUND), side("cand", times(1.06), start=1))
    suite = parsed(junit(found)).find("testsuite")
    assert suite.get("failures") == suite.get("tests") == str(len(found.rows))
    assert len(suite.findall("testcase/failure")) == len(found.rows)
    open_ = compare(side("base", [1.0]), side("cand", [1.0], start=1))
    suite = parsed(junit(open_)).find("testsuite")
    assert (suite.get("failures"), suite.get("skipped")) == ("0", suite.get("tests"))
    suite = parsed(junit(open_, undecided_fails=True)).find("testsuite")
    assert suite.get("failures") == suite.get("tests")


def test_markdown_and_json_hold_the_verdict_the_reason_and_the_suspects():
    cand = side("cand", times(1.06), start=1, provenance__engine__version="2")
    found = compare(side("base", ROUND), cand)
    text = markdown(found)
    assert "| **worse** |" in text
    assert "`engine.version`: None → 2" in text
    assert document(found)["rows"][0]["judged"]["word"] == "worse"


def test_sets_are_found_by_folder_pattern_id_and_record(tmp_path: Path):
    folders(tmp_path / "runs", side("base", ROUND))
    runs = tmp_path / "runs"
    assert len(find_runs(str(runs), artifact_dir=runs)) == 5
    assert len(find_runs(str(runs / "base-[12]"), artifact_dir=runs)) == 2
    assert len(find_runs("base-*", artifact_dir=runs)) == 5
    assert find_runs("base-3", artifact_dir=runs)[0].record.run_id == "base-3"
    (alone,) = find_runs(str(runs / "base-3" / "run.json"), artifact_dir=runs)
    assert alone.folder is None
    for nothing in ("nothing-*", "nothing"):
        with pytest.raises(StoreError):
            find_runs(nothing, artifact_dir=runs)


@pytest.mark.parametrize(
    ("factor", "code", "word"), [(1.06, 1, "worse"), (0.94, 0, "better"), (1.011, 2, "cannot tell")]
)
def test_the_exit_code_is_the_verdict(joulemark, tmp_path: Path, factor, code, word):
    folders(tmp_path / "base", side("base", ROUND))
    folders(tmp_path / "cand", side("cand", times(factor), start=1))
    done = joulemark(
        "compare", "base", "cand", "--fail-on", f"{ENERGY}:2%", "--junit", "j.xml",
        "--markdown", "s.md",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert word in done.stdout
    assert f"joulemark: {word}" in (tmp_path / "s.md").read_text()
    assert parsed((tmp_path / "j.xml").read_bytes()).tag == "testsuites"


def test_vs_separates_and_json_is_one_document(joulemark, tmp_path: Path):
    folders(tmp_path / "runs", side("base", ROUND))
    folders(tmp_path / "runs", side("cand", ROUND, start=1))
    done = joulemark("compare", "base-0", "base-1", "vs", "cand-0", "cand-1", "--json")
    assert json.loads(done.stdout)["base"] == ["base-0", "base-1"]
    refused = joulemark("compare", "base-0", "base-1", "cand-0")
    assert refused.returncode == 2
    assert "vs" in refused.stderr


def test_emulated_against_measured_exits_2_and_says_why(joulemark, tmp_path: Path):
    folders(tmp_path / "base", side("base", ROUND))
    folders(tmp_path / "cand", side("cand", ROUND, kind="emulated"))
    done = joulemark("compare", "base", "cand")
    assert done.returncode == 2
    assert "power_kind" in done.stderr
    assert "Traceback" not in done.stderr


def test_power_kind_is_named_before_any_other_difference():
    other = side("cand", [1.0], kind="emulated", start=1, config__load__concurrency=9)
    with pytest.raises(ConfigError, match="power_kind is measured") as caught:
        compare(side("base", [1.0]), other, allow=["power_kind"])
    assert "never allowed" in caught.value.remedy


def test_a_sweeps_folder_names_its_runs(tmp_path: Path):
    folders(tmp_path / "sweep" / "runs", side("s", [1.0, 1.1]))
    found = find_runs(str(tmp_path / "sweep"), artifact_dir=tmp_path)
    assert [one.record.run_id for one in found] == ["s-0", "s-1"]
