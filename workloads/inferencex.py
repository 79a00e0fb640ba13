"""InferenceX's fixed-length scenarios: 1k/1k, 1k/8k and 8k/1k, lengths uniform in [0.8 L, L]."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from harness.contracts import Workload
from harness.errors import ConfigError
from harness.timeline import Request

from . import _text as text

_SCENARIOS: Final[Mapping[str, tuple[int, int]]] = {
    "1k1k": (1024, 1024),
    "1k8k": (1024, 8192),
    "8k1k": (8192, 1024),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceX:
    """
    Independent random prompts, as SemiAnalysis' benchmark sends them.

    Source: InferenceX utils/bench_serving/benchmark_serving.py (lengths),
    benchmarks/benchmark_lib.sh (10 requests and 2 warm-up requests a slot,
    ignore_eos). Those prompts are random tokens written out as text; ours are
    words, or the ids themselves, whose length is then exact.

    Args:
        scenario: input and output length; `1k8k` was dropped from InferenceX in 2026.
        isl_tokens: instead of the scenario's input length.
        osl_tokens: instead of the scenario's output length.
        range_ratio: lengths are uniform in [ratio * L, L].
        prompts: `text`: words, about as many tokens; `tokens`: random ids;
            `harmony`: random ids inside gpt-oss' chat frame. The last two are for
            `/v1/completions` alone.
        vocab_tokens: ids of `tokens` are below it; the default is in every large
            vocabulary.
        reasoning_effort: what a harmony frame says; with a fixed length it only
            changes one token of the prompt.
    """

    scenario: Literal["1k1k", "1k8k", "8k1k"] = "1k1k"
    isl_tokens: int | None = None
    osl_tokens: int | None = None
    range_ratio: float = 0.8
    prompts: text.Form = "text"
    vocab_tokens: int = 30_000
    reasoning_effort: text.Effort = "medium"

    def __post_init__(self) -> None:
        text.check_length("isl_tokens", self.isl_tokens)
        text.check_length("osl_tokens", self.osl_tokens)
        text.check_length("vocab_tokens", self.vocab_tokens)
        if not 0 < self.range_ratio <= 1:
            raise ConfigError(
                f"workload.range_ratio is {self.range_ratio}, not in (0, 1]",
                remedy="set 0.8 as InferenceX does, or 1.0 for equal lengths",
            )

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Without end; every prompt differs, so that no prefix cache helps."""
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        isl, osl = _SCENARIOS[self.scenario]
        isl, osl = self.isl_tokens or isl, self.osl_tokens or osl
        index = 0
        while True:
            length = self._length(draw, isl)
            yield Request(
                index=index,
                prompt=text.prompt(
                    draw,
                    length,
                    form=self.prompts,
                    vocab_tokens=self.vocab_tokens,
                    effort=self.reasoning_effort,
                ),
                max_osl_tokens=self._length(draw, osl),
                isl_tokens=length,
            )
            index += 1

    def _length(self, draw: random.Random, longest: int) -> int:
        return draw.randint(max(1, int(self.range_ratio * longest)), longest)


PLUGIN: type[Workload] = InferenceX
