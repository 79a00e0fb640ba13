"""Artificial Analysis' system load test: 1,000 tokens in, 1,000 out, equal lengths."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from harness.contracts import Workload
from harness.timeline import Request

from . import _text as text


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTest:
    """
    Independent prompts of one length.

    Source: artificialanalysis.ai/methodology/system-and-hardware-benchmarking: a
    closed loop in phases of 3 minutes, at concurrency 1, 2, 4 … 64, then 64 more
    each until the throughput no longer grows; the preset `load-test` is that ladder.

    Args:
        isl_tokens: input length.
        osl_tokens: output length asked for.
        prompts: `text`, `tokens` or `harmony`, as in the workload `inferencex`.
        vocab_tokens: ids of `tokens` are below it.
        reasoning_effort: what a harmony frame says.
    """

    isl_tokens: int = 1000
    osl_tokens: int = 1000
    prompts: text.Form = "text"
    vocab_tokens: int = 30_000
    reasoning_effort: text.Effort = "high"

    def __post_init__(self) -> None:
        text.check_length("isl_tokens", self.isl_tokens)
        text.check_length("osl_tokens", self.osl_tokens)
        text.check_length("vocab_tokens", self.vocab_tokens)

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Without end."""
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        index = 0
        while True:
            yield Request(
                index=index,
                prompt=text.prompt(
                    draw,
                    self.isl_tokens,
                    form=self.prompts,
                    vocab_tokens=self.vocab_tokens,
                    effort=self.reasoning_effort,
                ),
                max_osl_tokens=self.osl_tokens,
                isl_tokens=self.isl_tokens,
            )
            index += 1


PLUGIN: type[Workload] = LoadTest
