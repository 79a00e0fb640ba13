"""vLLM, started as `vllm serve`."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec, TokenCounts
from harness.errors import EngineError
from harness.exposition import Exposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """
    One vLLM server. Options: https://docs.vllm.ai/en/stable/cli/serve.html.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        tensor_parallel_size: GPUs that share every layer.
        max_model_len: context length; None: the model's own.
        dtype: of weights and activations; `auto`: the model's own.
        load_format: `dummy` makes random weights, which the record then says.
        device: `gpu`, or `cpu` for vLLM's CPU builds.
        ready_timeout_s: loading and compiling a large model takes minutes.
        extra_args: passed through to `vllm serve`.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    dtype: str = "auto"
    load_format: str = "auto"
    device: Literal["gpu", "cpu"] = "gpu"
    ready_timeout_s: float = 1800.0
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """As the option says."""
        return self.device

    def prepare(self, *, port: int) -> Vllm:
        """With the port filled in, once the program is known to be there."""
        if shutil.which("vllm") is None:
            raise EngineError(
                "there is no program `vllm` on PATH",
                remedy="install it beside joulemark: `pip install 'joulemark[vllm]'`",
            )
        return replace(self, port=self.port or port)

    def launch(self) -> LaunchSpec:
        """`vllm serve MODEL …`."""
        argv = ["vllm", "serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--tensor-parallel-size", str(self.tensor_parallel_size)]
        argv += ["--dtype", self.dtype, "--load-format", self.load_format]
        if self.max_model_len is not None:
            argv += ["--max-model-len", str(self.max_model_len)]
        return LaunchSpec(
            argv=[*argv, *self.extra_args],
            ready_url=f"http://{self.host}:{self.port}/health",
            ready_timeout_s=self.ready_timeout_s,
            host=self.host,
            port=self.port,
            environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **self.environment},
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Continuous usage makes every chunk carry the running count of tokens."""
        return Endpoint(
            base_url=f"http://{self.host}:{self.port}",
            endpoint_type=endpoint_type or "completions",
            model=self.model,
            extra_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token; not for gpt-oss chats (vllm#50690)."""
        return {"ignore_eos": True}

    def counters(self) -> VllmCounters:
        """The counters of `/metrics`."""
        return VllmCounters()

    def facts(self) -> dict[str, Any]:
        """Version, settings, and whether the weights are real."""
        try:
            version = importlib.metadata.version("vllm")
        except importlib.metadata.PackageNotFoundError:
            version = None
        return {
            "engine": "vllm",
            "version": version,
            "weights": "random" if self.load_format == "dummy" else "real",
            "settings": {key: value for key, value in asdict(self).items() if key != "port"},
        }


class VllmCounters:
    """`vllm:` counters; source: vllm/v1/metrics/loggers.py, read in 0.33.0."""

    path = "/metrics"
    updated: Literal["iteration"] = "iteration"

    def read(self, exposition: str) -> TokenCounts:
        """`prompt_tokens_total` includes what the prefix cache served; summed over DP ranks."""
        metrics = Exposition(exposition)
        prompt = metrics.total("vllm:prompt_tokens_total")
        cached = metrics.total_or_none("vllm:prompt_tokens_cached_total")
        return TokenCounts(
            computed=None if cached is None else prompt - cached,
            cached=cached,
            generated=metrics.total("vllm:generation_tokens_total"),
        )


PLUGIN: type[Engine] = Vllm
