"""What an engine's metrics say beside its tokens: model, requests in progress, waste, phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .exposition import Exposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """
    What an engine says of itself beside its tokens.

    Args:
        model_name: as its labels say; None: they do not, or say several.
        running: requests in progress; None: it does not say.
        wasted: cumulative tokens for nobody, by reason.
        phase_s: cumulative busy seconds by phase: prefill, decode, mixed.
    """

    model_name: str | None
    running: float | None
    wasted: Mapping[str, float] = field(default_factory=dict)
    phase_s: Mapping[str, float] = field(default_factory=dict)


_RUNNING: Final = {
    "dynamo": "dynamo_frontend_inflight_requests",
    "llama_cpp": "llamacpp:requests_processing",
    "sglang": "sglang:num_running_reqs",
    "vllm": "vllm:num_requests_running",
}
_NAMED: Final = {
    "dynamo": ("dynamo_frontend_output_tokens_total", "model"),
    "sglang": ("sglang:num_running_reqs", "model_name"),
    "tensorrt_llm": ("trtllm_generation_tokens_total", "model_name"),
    "vllm": ("vllm:generation_tokens_total", "model_name"),
}
"""Engine → a metric whose lines name the model, and in which label."""
_PHASE_OF: Final = {"extend": "prefill", "prefill": "prefill", "decode": "decode"}


def activity(engine: str, exposition: str) -> Activity:
    """
    The rest of what the production daemon wants to know of one engine.

    Args:
        engine: whose dialect it is.
        exposition: the body of the same scrape.
    """
    metrics = Exposition(exposition)
    running, named = _RUNNING.get(engine), _NAMED.get(engine)
    names = {labels.get(named[1]) for labels, _ in metrics.series(named[0])} if named else set()
    return Activity(
        model_name=names.pop() if len(names) == 1 else None,
        running=None if running is None else metrics.total_or_none(running),
        wasted=_wasted(engine, metrics),
        phase_s=_phases(metrics) if engine == "sglang" else {},
    )


def _wasted(engine: str, metrics: Exposition) -> dict[str, float]:
    if engine == "sglang":
        told = [
            metrics.total_or_none(f"sglang:num_retracted_{kind}_tokens_total")
            for kind in ("input", "output")
        ]
        known = [value for value in told if value is not None]
        return {"retracted": sum(known)} if known else {}
    if engine == "vllm":
        drafted = metrics.total_or_none("vllm:spec_decode_num_draft_tokens_total")
        accepted = metrics.total_or_none("vllm:spec_decode_num_accepted_tokens_total")
        if drafted is not None and accepted is not None:
            return {"rejected_draft": drafted - accepted}
    return {}


def _phases(metrics: Exposition) -> dict[str, float]:
    """SGLang alone says how long its GPUs computed in each mode."""
    found: dict[str, float] = {}
    for labels, seconds in metrics.series("sglang:forward_execution_seconds_total"):
        if "category" in labels:
            phase = _PHASE_OF.get(labels["category"].lower(), "mixed")
            found[phase] = found.get(phase, 0.0) + seconds
    return found
