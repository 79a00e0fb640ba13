"""The mock engine: made-up tokens at a settable speed, to test a harness or a client host."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec, TokenCounters
from harness.dialects import ALL

from . import _launching as launching


@dataclass(frozen=True, slots=True, kw_only=True)
class Fake:
    """
    `joulemark mock` as an engine; no model, no arithmetic, no joules of its own.

    Args:
        model: the name it answers to.
        host: address it listens on.
        port: 0: the system chooses.
        ttft_s: from a request's last byte to its first token.
        itl_s: from one emission to the next.
        jitter_ratio: standard deviation of the gaps, as a share of itl_s.
        batch: all streams emit on common ticks, as an engine's steps do.
        tokens_per_chunk: tokens in one emission.
        slots: streams served at a time; None: no limit.
        natural_osl_tokens: where an answer stops by itself; None: never.
        reasoning_tokens: leading tokens sent as reasoning.
        dialect: whose metrics it shows: vllm, sglang, tensorrt_llm, llama_cpp, dynamo.
        faults: what goes wrong, in turn; `joulemark mock --help` has the list.
        fault_every: one request in so many goes wrong; 0: none.
        seed: of the jitter.
        prefill_gpus: GPUs that pretend to compute its prompts, in NVML's order.
        decode_gpus: GPUs that pretend to compute its answers.
    """

    model: str = "mock"
    host: str = "127.0.0.1"
    port: int = 0
    ttft_s: float = 0.05
    itl_s: float = 0.01
    jitter_ratio: float = 0.0
    batch: bool = True
    tokens_per_chunk: int = 1
    slots: int | None = None
    natural_osl_tokens: int | None = None
    reasoning_tokens: int = 0
    dialect: str = "vllm"
    faults: Sequence[str] = ()
    fault_every: int = 0
    seed: int = 0
    prefill_gpus: tuple[int, ...] = ()
    decode_gpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        launching.roles(self.prefill_gpus, self.decode_gpus)

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs that are metered as if they were its own; empty: all."""
        return (*self.prefill_gpus, *self.decode_gpus)

    @property
    def runs_on(self) -> Literal["elsewhere"]:
        """Nowhere: no joule of this machine makes these tokens."""
        return "elsewhere"

    def prepare(self, *, port: int) -> Fake:
        """With a port."""
        return replace(self, port=self.port or port)

    def launch(self) -> LaunchSpec:
        """The mock server as a process; it checks the settings."""
        roles = {"prefill_gpus", "decode_gpus"}
        settings = {key: value for key, value in asdict(self).items() if key not in roles}
        return LaunchSpec(
            argv=[sys.executable, "-P", "-m", "harness.mock", json.dumps(settings)],
            ready_url=f"http://{self.host}:{self.port}/health",
            ready_timeout_s=20.0,
            host=self.host,
            port=self.port,
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat by default, with vLLM's running usage in every chunk."""
        return Endpoint(
            base_url=f"http://{self.host}:{self.port}",
            endpoint_type=endpoint_type or "chat",
            model=self.model,
            extra_body={"stream_options": {"continuous_usage_stats": True}},
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """As vLLM and llama.cpp have it."""
        return {"ignore_eos": True}

    def counters(self) -> TokenCounters | None:
        """Those of the engine whose metrics it shows."""
        return ALL.get(self.dialect)

    def facts(self) -> dict[str, Any]:
        """Says that nothing here is a model."""
        settings = {key: value for key, value in asdict(self).items() if key != "port"}
        return {
            "engine": "fake",
            "version": None,
            "weights": "none: a mock server makes up the tokens",
            "gpus_by_role": launching.roles(self.prefill_gpus, self.decode_gpus),
            "settings": settings,
        }


PLUGIN: type[Engine] = Fake
