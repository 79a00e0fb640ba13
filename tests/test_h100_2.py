"""What a whole sweep on a real H100 says, computed again from the committed files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archives import unpacked

from benchmarks.gpu import engine_results, engine_split, engine_steps
from benchmarks.gpu.engine_results import conservation
from benchmarks.gpu.recording import read_json, traces_of
from harness import pipeline, store
from harness.cost import catalogue_files, point
from harness.phases.estimate import Split
from harness.record import RunRecord
from harness.timeline import EventKind

FOLDER = Path(__file__).parents[1] / "docs" / "measurements" / "2026-11-26-h100-2"
PREFILL = "prefill"
HIT_BY_COMPILING, CUT = "df32", "fcb3"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    work = unpacked(FOLDER / "engine.tar.xz", tmp_path_factory.mktemp("h100_2"))
    return work / "engine" / "gpt-oss-120b-mxfp4"


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Path:
    return unpacked(FOLDER / "protocol.tar.xz", tmp_path_factory.mktemp("h100_2")) / "meter"


@pytest.fixture(scope="module")
def runs(sweep) -> dict[str, tuple[store.RawRun, RunRecord]]:
    """The last four characters of each run's name, what it recorded, and what is made of it now."""
    raws = {path.name[-4:]: store.load(path) for path in (sweep / "sweep" / "runs").iterdir()}
    return {name: (raw, pipeline.analyse(raw)) for name, raw in raws.items()}


def point_of(raw: store.RawRun) -> int | str:
    config = raw.manifest["config"]
    return PREFILL if config["workload"]["osl_tokens"] == 1 else config["load"]["concurrency"]


def valid(runs, point: int | str) -> list[tuple[store.RawRun, RunRecord]]:
    return [
        (raw, record)
        for raw, record in runs.values()
        if point_of(raw) == point and all(f.severity != "invalid" for f in record.findings)
    ]


def longest_gap_s(raw: store.RawRun) -> float:
    """Between two tokens that reached the client while load was on."""
    edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
    t_ns = np.sort(raw.events["t_ns"][raw.events["kind"] == EventKind.CHUNK])
    inside = (t_ns >= edges["measure_start"]) & (t_ns < edges["measure_end"])
    return float(np.diff(t_ns[inside]).max()) / 1e9


def test_three_concurrencies_have_three_valid_measured_repeats_or_more(runs):
    assert {record.power_kind for _, record in runs.values()} == {"measured"}
    counts = {point: len(valid(runs, point)) for point in (8, 64, 128, PREFILL)}
    assert counts == {8: 5, 64: 5, 128: 3, PREFILL: 5}


@pytest.mark.parametrize(
    ("streams", "mean", "low", "high"),
    [(8, 0.9686, 0.9495, 0.9877), (64, 0.3709, 0.3697, 0.3721), (128, 0.2288, 0.1656, 0.2919)],
)
def test_joules_of_a_token_with_their_interval_over_repeats(runs, streams, mean, low, high):
    found = engine_results.interval(
        [record.metrics["gpu_j_per_output_token"].value for _, record in valid(runs, streams)]
    )
    assert found is not None
    assert [found["mean"], found["low"], found["high"]] == pytest.approx(
        [mean, low, high], abs=6e-5
    )


def test_nothing_was_cached_and_every_answer_was_as_long_as_asked(runs):
    for name, (raw, record) in runs.items():
        # Requests that were cut have no server's count.
        assert record.tokens["input_cached"] == (None if name == CUT else 0)
        good = raw.requests[raw.requests["error_kind"].isna()]
        assert (good["osl_tokens"] == good["max_osl_tokens"]).all()


def test_idle_and_load_add_up(runs):
    for raw, _ in runs.values():
        found = conservation(raw)
        assert found is not None
        assert abs(found.residual_ratio) < 0.001


def test_an_engine_whose_kernels_were_compiled_ahead_does_not_stand_still(runs):
    gaps_s = {name: longest_gap_s(raw) for name, (raw, _) in runs.items() if name != CUT}
    assert gaps_s.pop(HIT_BY_COMPILING) > 2
    assert max(gaps_s.values()) < 0.32
    silent = [
        name
        for name, (_, record) in runs.items()
        if any(finding.code == "engine_silent" for finding in record.findings)
    ]
    assert silent == [HIT_BY_COMPILING]


@pytest.mark.parametrize(
    ("streams", "plain_ms", "prompt_ms", "prompt_ratio"),
    [(8, 9.7, 71.5, 0.105), (64, 25.3, 79.6, 0.338), (128, 29.7, 80.8, 0.328)],
)
def test_a_step_that_reads_a_prompt_takes_about_as_long_whatever_there_is_to_read(
    runs, streams, plain_ms, prompt_ms, prompt_ratio
):
    found = []
    for raw, record in valid(runs, streams):
        window = record.load_window
        found.append(engine_steps.of_window(raw, window["start_ns"], window["end_ns"]))
    together = engine_steps.pooled([one for one in found if one is not None])
    assert together is not None
    assert together["plain_ms"] == pytest.approx(plain_ms, abs=0.06)
    assert together["prompt_ms"] == pytest.approx(prompt_ms, abs=0.06)
    assert together["prompt_ratio"] == pytest.approx(prompt_ratio, abs=6e-4)


def test_reading_prompts_costs_the_same_counted_alone_and_fitted_from_a_mixed_load(sweep, runs):
    counted = engine_results.compute(sweep, "gpt-oss-120b-mxfp4")["prefill"]
    assert counted["valid"] == 5
    alone = counted["above_idle_j_per_input_token"]
    assert alone["mean"] == pytest.approx(0.01449, abs=6e-6)
    assert counted["j_per_input_token"]["mean"] == pytest.approx(0.01799, abs=6e-6)
    fitted = {}
    for streams in (8, 64, 128):
        complete = [
            raw for raw, record in runs.values()
            if point_of(raw) == streams and record.status == "complete"
        ]  # fmt: skip
        fitted[streams] = engine_split.of_runs(complete)
    for streams in (64, 128):
        split = fitted[streams]
        assert isinstance(split, Split)
        prefill = split.prefill_j_per_token
        assert prefill.low <= alone["mean"] <= prefill.high
    # At 8 streams a step's waiting is charged to the few tokens that it read.
    assert fitted[8].prefill_j_per_token.low > 4 * alone["mean"]
    assert fitted[8].contradicted


def test_answers_of_one_token_lack_no_latency(runs):
    for _, record in valid(runs, PREFILL):
        assert "latency_missing" not in {finding.code for finding in record.findings}
        assert "ttft_s.mean" in record.metrics
        assert "itl_s.mean" not in record.metrics


def test_reads_aimed_at_ticks_stay_aimed_for_whole_runs(runs):
    for _, record in runs.values():
        (aimed,) = record.provenance["power"]["aimed"].values()
        assert aimed["given_up"] == 0
        assert aimed["aimed_ratio"] > 0.98
        assert aimed["period_ms"] == pytest.approx(100.0, abs=0.02)


def test_power_is_nearer_to_its_time_with_aimed_reads_and_still_not_near_enough(protocol):
    dithered, aimed = (
        read_json(protocol / f"{name}.json")["audit"]
        for name in ("window_compute", "window_compute_aimed")
    )
    assert dithered["period_error_ms"][1] == pytest.approx(4.13, abs=0.01)
    assert aimed["period_error_ms"][1] == pytest.approx(2.33, abs=0.01)
    assert aimed["cpu_s"] / aimed["wall_s"] < 0.7 * dithered["cpu_s"] / dithered["wall_s"]


def test_power_can_be_read_while_another_thread_reads_the_energy(protocol):
    for state in ("idle", "loaded"):
        calls = read_json(protocol / f"calls_{state}.json")["calls"]
        beside = calls["field 186 while another thread reads the energy"]["us"]
        assert beside["p50"] < 2 * calls["field 186 (instant power)"]["us"]["p50"]
        assert beside["p99"] < calls["field 83 (total energy)"]["us"]["p50"] / 5


def test_streams_of_unequal_lengths_are_not_in_step(runs):
    for _, record in runs.values():
        assert "streams_in_step" not in {finding.code for finding in record.findings}


def test_the_memory_has_a_power_of_its_own(protocol):
    watts = {}
    for load in ("idle", "memory", "compute"):
        held = read_json(protocol / f"window_{load}.json")["load"]
        for trace in traces_of(protocol, f"window_{load}"):
            if trace.channel.boundary == "gpu_memory":
                late = trace.t_before_ns > held["start_ns"] + 5_000_000_000
                watts[load] = float(trace.value[late & (trace.t_after_ns < held["end_ns"])].mean())
    assert watts == pytest.approx({"idle": 41.2, "memory": 164.2, "compute": 122.0}, abs=0.5)


def test_where_every_answer_is_one_token_the_record_has_joules_of_an_input_token(runs):
    found = [
        record.metrics["gpu_prefill_j_per_input_token"].value for _, record in valid(runs, PREFILL)
    ]
    assert np.mean(found) == pytest.approx(0.01799, abs=6e-6)
    for streams in (8, 64, 128):
        for _, record in valid(runs, streams):
            assert "gpu_prefill_j_per_input_token" not in record.metrics


def test_the_cost_of_a_run_is_made_of_the_very_joules_of_its_record(runs):
    catalogue = catalogue_files.load()
    for streams in (8, 64, 128):
        for _, record in valid(runs, streams):
            found = point.of_run(record, catalogue)
            joules = record.metrics["gpu_j_per_output_token"].value
            assert found.device_w / found.tok_per_s == pytest.approx(joules, rel=1e-12)
            rate = record.metrics["output_throughput_tok_per_s"].value
            assert found.tok_per_s == pytest.approx(rate, rel=0.02)
