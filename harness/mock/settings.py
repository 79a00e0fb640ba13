"""What the mock server can be told: speed, rhythm, faults and whose metrics it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from harness.errors import ConfigError

Dialect = Literal["llama_cpp", "vllm", "sglang", "tensorrt_llm", "dynamo"]

Fault = Literal[
    "http_400",
    "http_404",
    "http_429",
    "http_500",
    "http_503",
    "close",
    "reset",
    "cut",
    "stall",
    "slow",
    "stream_error",
    "bad_json",
    "gzip",
    "not_http",
    "no_done",
    "no_usage",
    "no_finish",
]
"""
`close`, `reset`: the connection ends before an answer; `cut`: in its middle.
`stall`: half an answer, then nothing. `slow`: a tenth of the speed; no error.
`no_done`, `no_usage`: the answer lacks its `[DONE]` or its usage; no error.
`no_finish`: it lacks finish_reason, usage and `[DONE]`. `not_http`: rubbish.
"""

FAULTS: Final = get_args(Fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class MockSettings:
    """
    One mock server.

    Args:
        host: address to listen on.
        port: 0: the system chooses.
        model: the name it answers to; any other name is served as well.
        ttft_s: from a request's last byte to its first token.
        itl_s: from one emission to the next.
        jitter_ratio: standard deviation of each gap, as a share of itl_s.
        batch: all streams emit on common ticks, as an engine's steps do; False:
            each stream keeps its own rhythm.
        tokens_per_chunk: tokens in one emission, as with speculative decoding.
        slots: streams served at a time, the rest wait; None: no limit.
        natural_osl_tokens: length of an answer that may stop by itself, that is
            without `ignore_eos`; None: every answer is as long as asked.
        reasoning_tokens: leading tokens sent as `reasoning_content`.
        dialect: whose metrics `/metrics` shows.
        faults: what goes wrong, in turn.
        fault_every: one request in so many goes wrong; 0: none.
        seed: of the jitter.
    """

    host: str = "127.0.0.1"
    port: int = 0
    model: str = "mock"
    ttft_s: float = 0.05
    itl_s: float = 0.01
    jitter_ratio: float = 0.0
    batch: bool = True
    tokens_per_chunk: int = 1
    slots: int | None = None
    natural_osl_tokens: int | None = None
    reasoning_tokens: int = 0
    dialect: Dialect = "vllm"
    faults: tuple[str, ...] = ()
    fault_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [fault for fault in self.faults if fault not in FAULTS]
        if unknown:
            raise ConfigError(
                f"the mock server knows no fault {unknown[0]!r}",
                remedy=f"choose from: {', '.join(FAULTS)}",
            )
        if self.dialect not in get_args(Dialect):
            raise ConfigError(
                f"the mock server knows no dialect {self.dialect!r}",
                remedy=f"choose one of: {', '.join(get_args(Dialect))}",
            )
        for name, value, least in (
            ("ttft_s", self.ttft_s, 0.0),
            ("itl_s", self.itl_s, 1e-6),
            ("jitter_ratio", self.jitter_ratio, 0.0),
            ("tokens_per_chunk", self.tokens_per_chunk, 1),
            ("slots", 1 if self.slots is None else self.slots, 1),
            ("reasoning_tokens", self.reasoning_tokens, 0),
            ("fault_every", self.fault_every, 0),
        ):
            if not math.isfinite(value) or value < least:
                raise ConfigError(
                    f"the mock server cannot have {name} = {value}",
                    remedy=f"give {least} or more",
                )

    def fault_of(self, number: int) -> str | None:
        """What goes wrong with request *number*, counted from 0."""
        if not self.faults or not self.fault_every or (number + 1) % self.fault_every:
            return None
        return self.faults[number // self.fault_every % len(self.faults)]
