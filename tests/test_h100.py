"""What one afternoon's readings of real H100s say, computed again from the committed files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from archives import unpacked
from click.testing import CliRunner

from benchmarks.gpu import engine_split, polls, report_loads
from benchmarks.gpu.arithmetic import changes, counter_delays_s, regular
from benchmarks.gpu.engine_results import conservation
from benchmarks.gpu.meter_results import steps_of
from benchmarks.gpu.recording import gpu_channels, read_json, traces_of
from harness import pipeline, store
from harness.cli.decompose import COMMAND as DECOMPOSE
from harness.integrate import traces, window_energies
from harness.joules.counter import stretches
from harness.joules.ticks import placed_ns
from harness.phases.estimate import Split
from harness.timeline import Window

FOLDER = Path(__file__).parents[1] / "docs" / "measurements" / "2026-11-26-h100"


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Path:
    return unpacked(FOLDER / "protocol.tar.xz", tmp_path_factory.mktemp("h100")) / "meter"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    work = unpacked(FOLDER / "engine.tar.xz", tmp_path_factory.mktemp("h100"))
    found = work / "engine" / "gpt-oss-120b-mxfp4" / "sweep" / "runs"
    return {path.name.rpartition("-")[2]: path for path in found.iterdir()}


@pytest.mark.parametrize("number", [1, 2])
def test_the_counter_ticks_on_one_lattice(number):
    found = changes(polls.trace(FOLDER / f"counter-polls-{number}.npz", "measured"))
    assert len(found.value) > 200
    ticks = regular(found)
    assert ticks is not None
    assert ticks.period_ms == pytest.approx(100.0, abs=0.005)
    assert ticks.room_ms > 1.5


@pytest.mark.parametrize("number", [1, 2])
def test_a_tick_holds_the_energy_up_to_its_own_instant(number):
    path = FOLDER / f"counter-polls-{number}.npz"
    with np.load(path) as found:
        pulses = found["load0"].tolist()
    for rising in (True, False):
        delays = counter_delays_s(polls.trace(path, "measured"), polls.steps(pulses, rising=rising))
        assert len(delays) >= 8
        assert abs(float(np.median(delays))) < 0.02


def test_the_protocol_finds_the_same_lag_at_its_own_rate(protocol):
    counter = gpu_channels(traces_of(protocol, "steps"))["counter"]
    delays = counter_delays_s(counter, steps_of(read_json(protocol / "steps.json")["load"]))
    assert len(delays) == 8
    assert max(map(abs, delays)) < 0.02


def test_ticks_are_placed_where_reads_are_farther_apart_than_ticks(protocol):
    # Read at 16 Hz: some reads were 101 ms apart, and once two ticks fell between two of them.
    found = [t for t in traces_of(protocol, "window_idle") if t.channel.boundary == "gpu"]
    held = read_json(protocol / "window_idle.json")["load"]
    for start_s in (2.0, 7.03, 11.37, 19.71):
        start_ns = held["start_ns"] + int(start_s * 1e9)
        window = Window(name="idle", start_ns=start_ns, end_ns=start_ns + 500_000_000)
        energy = window_energies(found, window)[0]
        assert (energy.high_j - energy.low_j) / 2 < 0.005 * energy.energy_j
        for joules in energy.cross_checks.values():
            assert joules == pytest.approx(energy.energy_j, rel=0.005)


def test_an_engine_that_stands_still_is_told_from_one_that_does_not(runs):
    # 64 streams: one run full of pauses, the other free of them in its window; and 8 streams.
    codes = {
        name: {finding.code for finding in pipeline.analyse(store.load(runs[name])).findings}
        for name in ("2d69", "aab3", "6f3b")
    }
    assert "engine_silent" in codes["2d69"]
    assert "engine_silent" not in codes["aab3"] | codes["6f3b"]


def by_concurrency(runs) -> dict[int, list[store.RawRun]]:
    found: dict[int, list[store.RawRun]] = {}
    for raw in map(store.load, runs.values()):
        found.setdefault(raw.manifest["config"]["load"]["concurrency"], []).append(raw)
    return found


def test_between_placed_ticks_the_idle_card_is_even_and_between_middles_of_reads_it_is_not(runs):
    for path in runs.values():
        raw = store.load(path)
        edges = {mark["mark"]: mark["t_ns"] for mark in raw.marks}
        (trace,) = [
            t for t in traces(raw.power_header, raw.power)
            if t.channel.quantity == "energy" and t.channel.boundary == "gpu"
        ]  # fmt: skip
        (knots,) = stretches(trace)
        placed = placed_ns(knots)
        assert placed is not None

        def uneven_w(t_ns, edges=edges, knots=knots):
            inside = (t_ns > edges["loaded_idle_start"]) & (t_ns < edges["loaded_idle_end"])
            return float(np.std(np.diff(knots.energy_j[inside]) / np.diff(t_ns[inside]) * 1e9))

        assert uneven_w(placed[0]) < 2
        assert uneven_w(knots.middle_ns) > 15


@pytest.mark.parametrize("streams", [8, 64, 128])
def test_each_concurrency_is_split_to_its_measured_idle_or_the_report_says_why_not(runs, streams):
    found = engine_split.of_runs(by_concurrency(runs)[streams])
    assert isinstance(found, Split)
    measured_w = np.mean(
        [
            pipeline.analyse(raw).metrics["gpu_loaded_idle_w"].value
            for raw in by_concurrency(runs)[streams]
        ]
    )
    assert found.idle_measured_w.value == pytest.approx(measured_w, rel=0.01)
    # At 8 streams it is outside by 0.2 W, within what is known of it; other things speak there.
    held = found.idle_w.low <= measured_w <= found.idle_w.high
    assert held or found.contradicted
    cells = report_loads.split_row(streams, "all runs", engine_split.as_row(found))
    assert cells[-1].startswith("**not to be used**") == found.contradicted


def test_what_speaks_against_each_split_of_the_real_runs(runs):
    """Prompts half cached at 8 streams; half of the 128 streams decoding as dear as all."""
    codes = {
        streams: {f.code for f in engine_split.of_runs(raws).findings if f.severity != "info"}
        for streams, raws in by_concurrency(runs).items()
    }
    assert codes == {
        8: {"split_not_linear", "split_runs_disagree"},
        64: set(),
        128: {"split_not_linear"},
    }


def test_all_concurrencies_at_once_are_contradicted_by_the_idle_card(runs):
    found = engine_split.of_runs([store.load(path) for path in runs.values()])
    assert isinstance(found, Split)
    codes = {f.code for f in found.findings}
    assert {"split_idle_contradicted", "split_not_linear"} <= codes
    assert found.idle_w.low > found.idle_measured_w.high


def test_the_joules_of_a_token_put_together_again_are_those_that_were_measured(runs):
    """64 streams without pauses: input, output and idling of the window's tokens."""
    raw = store.load(runs["aab3"])
    record = pipeline.analyse(raw)
    found = engine_split.of_runs([raw])
    assert isinstance(found, Split)
    rate = record.metrics["output_throughput_tok_per_s"].value
    together = (
        found.decode_j_per_token.value
        + 2 * found.prefill_j_per_token.value  # 128 in, 64 out
        + found.idle_w.value / rate
    )
    assert together == pytest.approx(record.metrics["gpu_j_per_output_token"].value, rel=0.05)


def test_decompose_prints_a_real_runs_split_and_what_speaks_against_it(runs):
    done = CliRunner().invoke(DECOMPOSE, [str(runs["618c"]), "--window", "run"])
    assert "MEASURED power" in done.output
    assert "NOT TO BE USED" not in done.output
    against = CliRunner().invoke(DECOMPOSE, [str(runs["6f3b"]), "--window", "run"])
    assert "NOT TO BE USED" in against.output
    assert "in proportion" in against.output
    refused = CliRunner().invoke(DECOMPOSE, [str(runs["2d69"]), "--window", "run"])
    assert "no split" in refused.output
    assert "although requests were in flight" in refused.output


def test_the_card_drew_idle_watts_while_the_engine_was_silent(runs):
    """So the engine stood still, and did not read prompts: the host compiled kernels."""
    told = []
    for path in runs.values():
        record = pipeline.analyse(store.load(path))
        silent = [finding for finding in record.findings if finding.code == "engine_silent"]
        if silent and "gpu_average_w" in record.metrics:
            assert silent[0].severity == "warning"
            told.append("it stood still" in silent[0].message)
    assert told == [True] * 4


def test_prompts_that_a_kept_engine_had_met_before_are_seen(runs):
    """A sweep's points shared seeds then: of five runs of nine, a prefix cache served input."""
    shares = {}
    for name, path in runs.items():
        record = pipeline.analyse(store.load(path))
        codes = {finding.code for finding in record.findings}
        shares[name] = record.tokens["input_cached"] / record.tokens["input"]
        assert ("input_cached" in codes) == (shares[name] > 0)
    assert sorted(share > 0 for share in shares.values()) == [False] * 4 + [True] * 5
    assert shares["2850"] == pytest.approx(112 / 128)


def test_streams_of_equal_lengths_are_seen_to_be_in_step(runs):
    """What the sweep of that day asked for, and what made its tokens cheaper than they are."""
    in_step = {}
    for path in runs.values():
        raw = store.load(path)
        codes = {finding.code for finding in pipeline.analyse(raw).findings}
        in_step.setdefault(raw.manifest["config"]["load"]["concurrency"], []).append(
            "streams_in_step" in codes
        )
    # 128 streams, and one window of 64, are too short for two requests a slot, or just so.
    assert in_step[8] == [True] * 3
    assert sum(in_step[64]) == 2
    assert sum(in_step[128]) == 1


def test_by_the_window_of_ml_energy_all_nine_runs_are_valid(runs):
    joules = {8: [], 64: [], 128: []}
    for path in runs.values():
        raw = store.load(path)
        config = raw.manifest["config"]
        window = {**config["window"], "kind": "ml_energy"}
        manifest = {**raw.manifest, "config": {**config, "window": window}}
        record = pipeline.analyse(dataclasses.replace(raw, manifest=manifest))
        assert all(finding.severity != "invalid" for finding in record.findings)
        streams = config["load"]["concurrency"]
        joules[streams].append(record.metrics["gpu_j_per_output_token"].value)
    means = {streams: np.mean(values) for streams, values in joules.items()}
    assert [len(values) for values in joules.values()] == [3, 3, 3]
    assert means == pytest.approx({8: 0.7459, 64: 0.3460, 128: 0.2085}, abs=5e-5)


def test_idle_and_load_add_up_on_a_real_card(runs):
    assert len(runs) == 9
    for path in runs.values():
        found = conservation(store.load(path))
        assert found is not None
        assert abs(found.residual_ratio) < 0.01


def test_measured_joules_of_a_token_are_what_was_published_here(runs):
    record = pipeline.analyse(store.load(runs["aab3"]))
    assert record.power_kind == "measured"
    assert record.metrics["gpu_j_per_output_token"].value == pytest.approx(0.3051, abs=5e-5)
