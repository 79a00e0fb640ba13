"""Each engine's counters come out in one meaning, and the traps of each dialect are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from harness import dialects, plugins
from harness.contracts import TokenCounts
from harness.errors import EngineError
from harness.exposition import Exposition

EXPOSITIONS = Path(__file__).parent / "expositions"
ENGINES = ("vllm", "sglang", "tensorrt_llm", "dynamo", "llama_cpp")


def text(name: str) -> str:
    return (EXPOSITIONS / f"{name}.txt").read_text(encoding="utf-8")


def read(dialect: str, exposition: str) -> TokenCounts:
    return dialects.ALL[dialect].read(exposition)


def without(name: str, *prefixes: str) -> str:
    kept = [line for line in text(name).splitlines() if not line.startswith(prefixes)]
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize(
    ("engine", "computed", "cached", "generated"),
    [
        ("vllm", 400, 600, 64),
        ("sglang", 600, 400, 64),
        ("tensorrt_llm", 744, 256, 64),
        # Recorded: 480, 480 and 80 input tokens, 448 of them cached.
        ("dynamo", 592, 448, 52),
        # Recorded: three requests of 49, 49 and 51 input tokens, 96 of them cached.
        ("llama_cpp", 53, 96, 52),
    ],
)
def test_all_dialects_mean_the_same(engine, computed, cached, generated):
    assert read(engine, text(engine)) == TokenCounts(
        computed=computed, cached=cached, generated=generated
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_plugin_of_the_engine_reads_its_own_dialect(engine):
    kind = plugins.load("engine", engine)
    built = kind() if engine == "llama_cpp" else kind(model="m")
    counters = built.counters()
    assert counters.read(text(engine)) == read(engine, text(engine))
    assert counters.updated in {"iteration", "request_end"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
def test_no_dialect_takes_another_engines_exposition_for_its_own(engine, other):
    if engine != other:
        with pytest.raises(EngineError):
            read(engine, text(other))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_exposition_is_refused_not_read_as_zero(engine):
    with pytest.raises(EngineError, match="switched on"):
        read(engine, "")


def test_a_recording_of_a_real_vllm_is_read_as_its_answers_usage_says():
    """300 + 300 + 60 input tokens, 256 of them cached; 20 + 20 + 12 output tokens."""
    counts = read("vllm", text("vllm_recorded"))
    assert counts == TokenCounts(computed=660 - 256, cached=256, generated=52)
    older = without("vllm_recorded", "vllm:prompt_tokens_by_source")
    assert read("vllm", older) == counts


def test_llama_cpp_prompt_tokens_leave_the_cached_ones_out_and_vllm_s_do_not():
    llama, vllm = read("llama_cpp", text("llama_cpp")), read("vllm", text("vllm"))
    assert llama.computed == 53
    assert "llamacpp:prompt_tokens_total 53" in text("llama_cpp")
    assert vllm.computed == 1000 - 600


def test_vllm_prefix_cache_hits_are_not_believed():
    """They count a waiting request at every attempt: 18,000 hits of 1,000 tokens here."""
    assert read("vllm", text("vllm")).cached == 600


def test_vllm_without_a_cache_split_says_that_it_does_not_know():
    assert read("vllm", text("vllm_old")) == TokenCounts(computed=None, cached=None, generated=64)


def test_vllm_without_sources_falls_back_to_the_cached_counter():
    assert read("vllm", without("vllm", "vllm:prompt_tokens_by_source")) == TokenCounts(
        computed=400, cached=600, generated=64
    )


def test_disaggregated_workers_scraped_together_count_each_prompt_once():
    counts = read("vllm", text("vllm_disaggregated"))
    assert counts.computed == 810
    assert counts.cached == 200
    assert counts.generated == 640


def test_one_vllm_s_tokens_from_a_cache_outside_are_cached():
    one = without("vllm_disaggregated", 'vllm:prompt_tokens_by_source_total{dynamo_component="p')
    assert read("vllm", one).cached == 990


def test_sglang_s_disaggregated_workers_scraped_together_count_each_request_once():
    """Two requests of 500 input tokens, 100 cached, and 40 output tokens; prefill ends at one."""
    lines = [
        f'sglang:{name}{{model_name="m",engine_type="{side}"{more}}} {value}'
        for side, generated in (("prefill", 2), ("decode", 80))
        for name, more, value in (
            ("prompt_tokens_total", ',is_streaming="true"', 1000),
            ("generation_tokens_total", ',is_streaming="true"', generated),
            ("cached_tokens_total", ',cache_source="device"', 200),
        )
    ]
    assert read("sglang", "\n".join(lines) + "\n") == TokenCounts(
        computed=800, cached=200, generated=80
    )
    (decode,) = [line for line in lines if "decode" in line and "generation" in line]
    alone = "\n".join([decode, *(line for line in lines if "decode" in line and "prompt" in line)])
    assert read("sglang", alone + "\n").generated == 80


def test_sglang_takes_all_three_counts_from_one_family():
    """The families differ while requests run: 64 against 70 generated here."""
    assert read("sglang", text("sglang")).generated == 64


def test_sglang_ranks_that_tell_the_same_tokens_are_not_summed():
    only = without("sglang", "sglang:prompt_tokens", "sglang:generation", "sglang:cached")
    assert read("sglang", only) == TokenCounts(computed=600, cached=400, generated=70)


def test_sglang_replicas_are_summed():
    only = without("sglang", "sglang:prompt_tokens", "sglang:generation", "sglang:cached")
    second = "\n".join(
        line.replace('tp_rank="0"', 'tp_rank="0",dp_rank="1"')
        for line in only.splitlines()
        if 'tp_rank="0"' in line
    )
    assert read("sglang", only + second + "\n").generated == 140


def test_sglang_without_a_hit_yet_has_cached_nothing():
    assert read("sglang", without("sglang", "sglang:cached")).cached == 0


def test_tensorrt_llm_without_a_hit_yet_has_cached_nothing_if_it_counts_at_all():
    no_hit = without("tensorrt_llm", "trtllm_prompt_cached_tokens_total")
    assert read("tensorrt_llm", no_hit).cached == 0
    silent = without("tensorrt_llm", "trtllm_prompt_cached")
    assert read("tensorrt_llm", silent).computed is None


def test_tensorrt_llm_1_2_is_told_from_a_server_without_metrics():
    old = '# TYPE request_success_total counter\nrequest_success_total{model_name="m"} 3\n'
    with pytest.raises(EngineError, match=r"no tokens \(1\.1 and 1\.2 do not\); use 1\.3"):
        read("tensorrt_llm", old)


def test_tensorrt_llm_iteration_statistics_are_named_as_such():
    with pytest.raises(EngineError, match="read /prometheus/metrics"):
        read("tensorrt_llm", '[{"numActiveRequests": 1}]')
    assert dialects.TensorRtLlmCounters.path == "/prometheus/metrics"


def test_dynamo_s_frontend_without_cache_reports_says_that_it_does_not_know():
    counts = read("dynamo", without("dynamo", "dynamo_frontend_cached"))
    assert (counts.computed, counts.cached, counts.generated) == (None, None, 52)


def test_an_exposition_is_read_as_the_reference_parser_reads_it():
    """
    Every sample of every recording, against prometheus_client's own parser.

    Which adds `_total` to a counter that llama.cpp calls by another name; we do not.
    """
    for path in sorted(EXPOSITIONS.glob("*.txt")):
        recorded = path.read_text(encoding="utf-8")
        ours = Exposition(recorded)
        for family in text_string_to_metric_families(recorded):
            for name in {sample.name for sample in family.samples if sample.name in recorded}:
                wanted = [(s.labels, s.value) for s in family.samples if s.name == name]
                assert ours.series(name) == wanted, (path.name, name)


def test_names_in_comments_labels_and_longer_names_are_no_samples():
    metrics = Exposition(
        "# HELP a_total about a_total 7\n"
        "# TYPE a_total counter\n"
        'b_total{of="a_total",why="}\\"\\n{"} 1\n'
        "a_total_more 2\n"
        'x_a_total 3\na_total{of="} 9"} 4 1700000000000\na_total 5\n'
    )
    assert metrics.series("a_total") == [({"of": "} 9"}, 4.0), ({}, 5.0)]
    assert metrics.series("b_total") == [({"of": "a_total", "why": '}"\n{'}, 1.0)]


def test_a_line_that_is_no_sample_is_refused_by_its_words():
    with pytest.raises(EngineError, match=r"not a Prometheus exposition \(a_total nine\)"):
        Exposition("a_total nine\n").total("a_total")


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=12)))
def test_any_label_value_survives_the_way_there_and_back(labels):
    """Written by prometheus_client, read by us."""
    gauge = GaugeMetricFamily("g", "h", labels=list(labels))
    gauge.add_metric(list(labels.values()), 2.5)
    registry = CollectorRegistry()
    registry.collect = lambda: [gauge]
    assert Exposition(generate_latest(registry).decode()).series("g") == [(labels, 2.5)]
