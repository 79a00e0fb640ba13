"""The mock server's counters, shown in the words of whichever engine it plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .settings import Dialect


@dataclass(slots=True)
class Counts:
    """What the server has done so far; no prefix cache, so nothing is ever cached."""

    prompt: int = 0
    generated: int = 0
    generated_finished: int = 0
    """Output tokens of finished requests: llama.cpp and TensorRT-LLM count only these."""
    requests: int = 0
    running: int = 0
    waiting: int = 0


_VLLM: Final = """\
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{{{labels}}} {prompt}
# TYPE vllm:prompt_tokens_cached counter
vllm:prompt_tokens_cached_total{{{labels}}} 0
# TYPE vllm:prompt_tokens_by_source counter
vllm:prompt_tokens_by_source_total{{{labels},source="local_compute"}} {prompt}
vllm:prompt_tokens_by_source_total{{{labels},source="local_cache_hit"}} 0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{{{labels}}} {generated}
# TYPE vllm:request_success counter
vllm:request_success_total{{{labels},finished_reason="length"}} {requests}
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{labels}}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{labels}}} {waiting}
"""
_SGLANG: Final = """\
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{{labels}}} {prompt}
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{{{labels},cache_source="device"}} 0
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{{labels}}} {generated_finished}
# TYPE sglang:realtime_tokens_total counter
sglang:realtime_tokens_total{{{labels},mode="prefill_compute"}} {prompt}
sglang:realtime_tokens_total{{{labels},mode="prefill_cache"}} 0
sglang:realtime_tokens_total{{{labels},mode="decode"}} {generated}
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{{{labels}}} {requests}
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{labels}}} {running}
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{{labels}}} {waiting}
"""
_TENSORRT_LLM: Final = """\
# TYPE trtllm_prompt_tokens counter
trtllm_prompt_tokens_total{{{labels}}} {prompt}
# TYPE trtllm_prompt_cached_tokens counter
trtllm_prompt_cached_tokens_total{{{labels}}} 0
# TYPE trtllm_generation_tokens counter
trtllm_generation_tokens_total{{{labels}}} {generated_finished}
# TYPE trtllm_request_success counter
trtllm_request_success_total{{{labels},finished_reason="length"}} {requests}
"""
_LLAMA_CPP: Final = """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompt}
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 0
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total {generated_finished}
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing {running}
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred {waiting}
"""
_DYNAMO: Final = """\
# TYPE dynamo_frontend_requests counter
dynamo_frontend_requests_total{{model="{model}",status="success"}} {requests}
# TYPE dynamo_frontend_output_tokens counter
dynamo_frontend_output_tokens_total{{model="{model}"}} {generated}
# TYPE dynamo_frontend_input_sequence_tokens histogram
dynamo_frontend_input_sequence_tokens_bucket{{model="{model}",le="+Inf"}} {requests}
dynamo_frontend_input_sequence_tokens_sum{{model="{model}"}} {prompt}
dynamo_frontend_input_sequence_tokens_count{{model="{model}"}} {requests}
# TYPE dynamo_frontend_cached_tokens histogram
dynamo_frontend_cached_tokens_bucket{{model="{model}",le="+Inf"}} {requests}
dynamo_frontend_cached_tokens_sum{{model="{model}"}} 0
dynamo_frontend_cached_tokens_count{{model="{model}"}} {requests}
# TYPE dynamo_frontend_inflight_requests gauge
dynamo_frontend_inflight_requests{{model="{model}"}} {running}
"""
_TEMPLATES: Final[dict[Dialect, tuple[str, str]]] = {
    "vllm": (_VLLM, 'engine="0",model_name="{model}"'),
    "sglang": (_SGLANG, 'model_name="{model}",engine_type="unified"'),
    "tensorrt_llm": (_TENSORRT_LLM, 'model_name="{model}",engine_type="pytorch"'),
    "llama_cpp": (_LLAMA_CPP, ""),
    "dynamo": (_DYNAMO, ""),
}
PATHS: Final[dict[Dialect, str]] = {
    "vllm": "/metrics",
    "sglang": "/metrics",
    "tensorrt_llm": "/prometheus/metrics",
    "llama_cpp": "/metrics",
    "dynamo": "/metrics",
}
"""Where each engine serves its Prometheus text."""


def exposition(dialect: Dialect, counts: Counts, *, model: str) -> bytes:
    """
    The Prometheus text one engine would show.

    Args:
        dialect: whose words.
        counts: the numbers.
        model: the label's value.
    """
    template, labels = _TEMPLATES[dialect]
    safe = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    values = {
        name: getattr(counts, name)
        for name in ("prompt", "generated", "generated_finished", "requests", "running", "waiting")
    }
    return template.format(labels=labels.format(model=safe), model=safe, **values).encode()
