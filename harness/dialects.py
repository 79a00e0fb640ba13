"""Each engine's own token counters in one meaning: computed, cached and generated tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from .contracts import TokenCounts
from .errors import EngineError
from .exposition import Exposition


class VllmCounters:
    """
    `vllm:` counters, moved at every engine iteration.

    Names and invariants: vllm/v1/metrics/loggers.py and stats.py, read in 0.33.0;
    seen live in 0.32.0. `prompt_tokens_total` includes what the cache served.
    `prefix_cache_hits_total` is not used: it counts a waiting request again at
    every scheduling attempt (up to 30 times what was served, by one report).
    """

    path = "/metrics"
    updated: Literal["iteration"] = "iteration"

    def read(self, exposition: str) -> TokenCounts:
        """
        Summed over data-parallel engines and models.

        A disaggregated decode worker reports each prompt again, with the source
        `external_kv_transfer`; so work done is `local_compute`, and where series
        of prefill and decode workers come together (label `dynamo_component`)
        that source is not taken for a cache.
        """
        metrics = Exposition(exposition)
        source = "vllm:prompt_tokens_by_source_total"
        generated = metrics.total("vllm:generation_tokens_total")
        computed = metrics.total_or_none(source, source="local_compute")
        if computed is not None:
            hit = metrics.total_or_none(source, source="local_cache_hit") or 0.0
            fetched = metrics.total_or_none(source, source="external_kv_transfer") or 0.0
            prefill_apart = metrics.total_or_none(source, dynamo_component="prefill") is not None
            cached = hit if prefill_apart else hit + fetched
            return TokenCounts(computed=computed, cached=cached, generated=generated)
        # Before the sources were told apart (seen missing in 0.15).
        prompt = metrics.total("vllm:prompt_tokens_total")
        cached_or_none = metrics.total_or_none("vllm:prompt_tokens_cached_total")
        return TokenCounts(
            computed=None if cached_or_none is None else prompt - cached_or_none,
            cached=cached_or_none,
            generated=generated,
        )


class SglangCounters:
    """
    `sglang:` counters of finished requests; need `--enable-metrics`.

    Names: srt/observability/metrics_collector.py, read in 0.5.23. There are two
    families that disagree while requests run: one moved by requests, one
    (`realtime_tokens_total`) at each log interval, by every scheduler. All three
    counts are taken from one family, the first where it is there.
    """

    path = "/metrics"
    updated: Literal["request_end"] = "request_end"

    def read(self, exposition: str) -> TokenCounts:
        """
        `prompt_tokens_total` includes cached tokens, which are told by where they came from.

        Of a disaggregated deployment whose workers are scraped together each side
        counts the whole request when it ends, the prefill side with one token of
        output: so input is the prefill side's, output the decode side's.
        """
        metrics = Exposition(exposition)
        name = "sglang:generation_tokens_total"
        sides = {labels.get("engine_type") for labels, _ in metrics.series(name)}
        apart = {"prefill", "decode"} <= sides
        prefill = {"engine_type": "prefill"} if apart else {}
        prompt = metrics.total_or_none("sglang:prompt_tokens_total", **prefill)
        generated = metrics.total_or_none(name, **({"engine_type": "decode"} if apart else {}))
        if prompt is not None and generated is not None:
            # A source that was never used has no series.
            cached = metrics.total_or_none("sglang:cached_tokens_total", **prefill) or 0.0
            return TokenCounts(computed=prompt - cached, cached=cached, generated=generated)
        return self._realtime(metrics)

    def _realtime(self, metrics: Exposition) -> TokenCounts:
        """With `--enable-metrics-for-all-schedulers` each rank of a group tells the same tokens."""
        name = "sglang:realtime_tokens_total"
        every = metrics.total_or_none(name, mode="decode")
        ranked = metrics.total_or_none(name, mode="decode", tp_rank="0", pp_rank="0")
        first = {"tp_rank": "0", "pp_rank": "0"} if ranked is not None else {}
        if every is None:
            # Raises with the names that are there.
            every = metrics.total("sglang:generation_tokens_total")
        return TokenCounts(
            computed=metrics.total_or_none(name, mode="prefill_compute", **first),
            cached=metrics.total_or_none(name, mode="prefill_cache", **first),
            generated=every if ranked is None else ranked,
        )


class TensorRtLlmCounters:
    """
    `trtllm_` counters, moved only when a request ends; need `return_perf_metrics`.

    Names: tensorrt_llm/metrics/collector.py, read on main in the time of 1.3.0rc.
    The releases 1.1 and 1.2 have no token counters at all. `/metrics` of this
    server is JSON; the exposition lies under `/prometheus/metrics`.
    """

    path = "/prometheus/metrics"
    updated: Literal["request_end"] = "request_end"

    def read(self, exposition: str) -> TokenCounts:
        """Cached tokens have no series until the first cache hit; their histogram tells."""
        if exposition.lstrip().startswith(("[", "{")):
            raise EngineError(
                "this is TensorRT-LLM's iteration statistics in JSON, not its Prometheus metrics",
                remedy="read /prometheus/metrics, and set return_perf_metrics in its options",
            )
        metrics = Exposition(exposition)
        if metrics.total_or_none("trtllm_generation_tokens_total") is None and (
            metrics.total_or_none("trtllm_request_success_total") is not None
            or metrics.total_or_none("request_success_total") is not None
        ):
            raise EngineError(
                "this TensorRT-LLM counts requests, but no tokens (1.1 and 1.2 do not)",
                remedy="use 1.3 or newer; until then tokens are counted by usage alone",
            )
        prompt = metrics.total("trtllm_prompt_tokens_total")
        cached = metrics.total_or_none("trtllm_prompt_cached_tokens_total")
        observed = metrics.total_or_none("trtllm_prompt_cached_tokens_per_request_count")
        if cached is None and observed is not None:
            cached = 0.0
        return TokenCounts(
            computed=None if cached is None else prompt - cached,
            cached=cached,
            generated=metrics.total("trtllm_generation_tokens_total"),
        )


class DynamoCounters:
    """
    Dynamo's frontend, which sees each request once however many workers share it.

    Names: dynamo/prometheus_names.py in 1.6.1, seen live in 1.6.1. Workers pass
    their engines' own counters through on their system ports; a sum of those
    counts a prompt once for prefill and once more for decode, so they are not read.
    Output tokens move as they stream, input tokens when a request ends.
    """

    path = "/metrics"
    updated: Literal["request_end"] = "request_end"

    def read(self, exposition: str) -> TokenCounts:
        """Input lengths are histograms, of which the sums count."""
        metrics = Exposition(exposition)
        generated = metrics.total("dynamo_frontend_output_tokens_total")
        prompt = metrics.total_or_none("dynamo_frontend_input_sequence_tokens_sum")
        cached = metrics.total_or_none("dynamo_frontend_cached_tokens_sum")
        known = prompt is not None and cached is not None
        return TokenCounts(
            computed=prompt - cached if known else None,  # type: ignore[operator]
            cached=cached,
            generated=generated,
        )


class LlamaCppCounters:
    """
    `llamacpp:` counters; seen in xllamacpp 2026.10; need `--metrics`.

    Source: llama.cpp tools/server/README.md. Prompts are counted per batch,
    output when a slot is let go. `prompt_tokens_total` leaves cached tokens out,
    unlike all other engines; before August 2026 cached ones were not counted.
    """

    path = "/metrics"
    updated: Literal["request_end"] = "request_end"

    def read(self, exposition: str) -> TokenCounts:
        """Nothing to subtract here."""
        metrics = Exposition(exposition)
        return TokenCounts(
            computed=metrics.total("llamacpp:prompt_tokens_total"),
            cached=metrics.total_or_none("llamacpp:prompt_tokens_cached_total"),
            generated=metrics.total("llamacpp:tokens_predicted_total"),
        )


Counters = VllmCounters | SglangCounters | TensorRtLlmCounters | DynamoCounters | LlamaCppCounters
ALL: Final[Mapping[str, Counters]] = {
    "dynamo": DynamoCounters(),
    "llama_cpp": LlamaCppCounters(),
    "sglang": SglangCounters(),
    "tensorrt_llm": TensorRtLlmCounters(),
    "vllm": VllmCounters(),
}
"""Engine plugin → its counters; an engine that is not here counts no tokens."""


def spoken(exposition: str, among: Iterable[str] = ALL) -> tuple[str, TokenCounts]:
    """
    Whose counters these are, and what they say.

    Args:
        exposition: the body of a scrape.
        among: engines it may be, in the order in which they are tried.

    Raises:
        EngineError: it speaks none of these dialects.
    """
    for engine in among:
        with contextlib.suppress(EngineError):
            return engine, ALL[engine].read(exposition)
    raise EngineError(
        f"its metrics have the token counters of none of: {', '.join(among)}",
        remedy="name the engine, and check that its metrics are switched on",
    )
