"""Plans the sweep of stage `engine`: its points, its repeats, and how long each run may take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import shapes

REPEATS = 3
_ENGINE_START_S = {"vllm": 100.0}
_OTHER_START_S = 60.0
AROUND_A_RUN_S = 14.0
"""Loaded idle, warm-up, drain and the sampler's start."""
_POINTS = {"vllm": ((8, 64, 128), (8, 64), (64,))}
_OTHER_POINTS = ((8, 32, 64), (8, 64), (32,))
"""Concurrencies, the first that fit the time; ML.ENERGY has published 8 and 64."""
_LENGTHS = {"vllm": (128, 64)}
_OTHER_LENGTHS = (256, 32)
"""Tokens of a prompt and of an answer, at most. Answers are short, because steady state needs three
mean residencies inside the window."""
RANGE_RATIO = 0.8
"""Lengths are uniform from this share up, as InferenceX has them: streams of equal answers would
all begin and end together."""
_LEAST_LOAD_S, _MOST_LOAD_S = 10.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """
    A point that is prefill and nothing else: every answer is one token.

    Args:
        concurrency: streams.
        isl_tokens: of a prompt, at most.
    """

    concurrency: int
    isl_tokens: int


PREFILL = Prefill(concurrency=16, isl_tokens=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is swept.

    Args:
        engine: `transformers`, `vllm`, `llama-cpp`, or `mock` in a dry run.
        model: a shape of `shapes.py`, or for llama-cpp a GGUF file.
        concurrencies: the points.
        isl_tokens: of a prompt, at most.
        osl_tokens: of an answer, at most.
        load_s: of one run.
        idle_s: the loaded engine is left alone for, before each run.
        min_window_s: a steady window must have; shorter ones give no joules.
        device: `gpu`; `cpu` only to try the way without a card.
        repeats: of each point.
        prefill: a point more; None: none.
    """

    engine: str
    model: str
    concurrencies: tuple[int, ...]
    isl_tokens: int
    osl_tokens: int
    load_s: float
    idle_s: float
    min_window_s: float
    device: str = "gpu"
    repeats: int = REPEATS
    prefill: Prefill | None = None


def plan(
    engine: str,
    model: str,
    seconds: float,
    *,
    device: str = "gpu",
    load_s: float | None = None,
    repeats: int = REPEATS,
) -> Plan:
    """
    Fit a sweep of three concurrencies, *repeats* of each, into *seconds*; else of fewer.

    With *load_s* three points of runs that long are planned whether they fit or not. On vLLM a
    point of prefill alone is added. A model cut to a few layers is only tried: one short run.
    """
    if engine == "mock":
        return Plan(
            engine=engine, model=model, concurrencies=(4, 8, 16), isl_tokens=64, osl_tokens=24,
            load_s=5.5, idle_s=1.5, min_window_s=3.0, prefill=Prefill(concurrency=4, isl_tokens=64),
        )  # fmt: skip
    start_s = _ENGINE_START_S.get(engine, _OTHER_START_S)
    prefill = PREFILL if engine == "vllm" else None
    for points in _POINTS.get(engine, _OTHER_POINTS):
        runs = repeats * (len(points) + (prefill is not None))
        room_s = (seconds - start_s) / runs - AROUND_A_RUN_S
        if load_s is not None or room_s >= _LEAST_LOAD_S:
            break
    isl_tokens, osl_tokens = _LENGTHS.get(engine, _OTHER_LENGTHS)
    fitting_s = min(_MOST_LOAD_S, max(_LEAST_LOAD_S, room_s))
    whole = Plan(
        engine=engine,
        model=model,
        concurrencies=(2, 4, 8) if device == "cpu" else points,
        isl_tokens=32 if device == "cpu" else isl_tokens,
        osl_tokens=16 if device == "cpu" else osl_tokens,
        load_s=fitting_s if load_s is None else load_s,
        idle_s=4.0,
        min_window_s=5.0,
        device=device,
        repeats=repeats,
        prefill=prefill,
    )
    if shapes.is_cut(model):
        return replace(
            whole,
            concurrencies=points[:1],
            load_s=6.0,
            idle_s=1.5,
            min_window_s=2.0,
            repeats=1,
            prefill=None,
        )
    return whole


def toml(engine: str, chosen: Plan) -> str:
    """
    The sweep as `joulemark sweep` reads it.

    Args:
        engine: the lines of its `[engine]`.
        chosen: everything else.
    """
    # vLLM compiles and allocates what it meets first: two full batches, joulemark's default.
    warmup = "" if chosen.engine == "vllm" else "warmup_request_count = 8\n"
    cases = [f'"load.concurrency" = {streams}\n' for streams in chosen.concurrencies]
    if chosen.prefill is not None:
        cases.append(
            f'"load.concurrency" = {chosen.prefill.concurrency}\n'
            f'"workload.isl_tokens" = {chosen.prefill.isl_tokens}\n"workload.osl_tokens" = 1\n'
        )
    listed = "\n".join(f"[[sweep.cases]]\n{case}" for case in cases)
    return f"""# Written by benchmarks/gpu/engine_plan.py.
[engine]
{engine}
[workload]
kind = "synthetic"
isl_tokens = {chosen.isl_tokens}
osl_tokens = {chosen.osl_tokens}
range_ratio = {RANGE_RATIO}

[load]
pattern = "concurrency"
concurrency = {chosen.concurrencies[0]}
duration_s = {chosen.load_s}
{warmup}endpoint_type = "completions"

[power]
idle_s = {chosen.idle_s}

[window]
kind = "steady"
min_s = {chosen.min_window_s}
refuse_below_s = {chosen.min_window_s}

[sweep]
repeats = {chosen.repeats}
order = "random"

{listed}"""
