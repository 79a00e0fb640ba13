"""TensorRT-LLM, started as `trtllm-serve`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import TensorRtLlmCounters
from harness.errors import ConfigError

from . import _launching as launching
from . import _serving as serving


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtLlm:
    """
    One trtllm-serve. Never started by us: its wheels lie on NVIDIA's own index.

    Options: tensorrt_llm/commands/serve.py, read at commit 00209af, and
    https://nvidia.github.io/TensorRT-LLM/1.0.0/commands/trtllm-serve/: `--tp_size`,
    `--pp_size`, `--ep_size` and `--kv_cache_free_gpu_memory_fraction` are second
    names of options that have longer ones there, and `--extra_llm_api_options` is
    the older name of `--config`, the one that 1.0 documents. What the command line
    lacks is given in that YAML file, which we write as JSON, a part
    of YAML: it switches on `return_perf_metrics`, without which there are no
    Prometheus metrics, and `enable_energy_metrics`. The joules that
    `/energy_metrics` then tells (`total_energy_j`, since the start; 503 where NVML
    cannot be read: serve/openai_server.py) are held against ours of the measured
    phase, a cross-check in the findings. They are scaled by world size over the
    GPUs it sees, so on several nodes they are a guess.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: GPUs the layers are dealt out to.
        expert_parallel_size: GPUs the experts are spread over; None: its choice.
        attention_dp: data-parallel attention inside the tensor-parallel group.
        gpus: indices in NVML's order; empty: the first ones.
        max_batch_size: requests in one batch at most; None: its choice.
        max_num_tokens: tokens in one step at most; None: its choice.
        max_seq_len: context length; None: the model's own.
        kv_cache_free_gpu_memory_fraction: of the memory left by the weights.
        prefix_caching: False: blocks are not used again (`kv_cache_config`).
        load_format: `dummy` makes random weights, which the record then says.
        energy_metrics: let it count joules, too (in 1.3 and newer; False for older).
        options: further LLM API options, as a table; these win over ours.
        ready_timeout_s: loading and tuning takes minutes.
        image: run it in a container, e.g. `nvcr.io/nvidia/tensorrt-llm/release:1.3.0`.
        image_runtime: what runs the container.
        image_args: further options of `docker run`.
        extra_args: passed through to `trtllm-serve`.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    expert_parallel_size: int | None = None
    attention_dp: bool = False
    gpus: tuple[int, ...] = ()
    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    max_seq_len: int | None = None
    kv_cache_free_gpu_memory_fraction: float | None = None
    prefix_caching: bool = True
    load_format: str = "auto"
    energy_metrics: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    ready_timeout_s: float = 3600.0
    image: str = ""
    image_runtime: Literal["docker", "podman"] = "docker"
    image_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        launching.sizes_at_least_one(
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            expert_parallel_size=self.expert_parallel_size,
        )
        launching.gpu_list(self.gpus, self._needed, why="tensor x pipeline parallel")
        if {"--config", "--extra_llm_api_options"} & set(self.extra_args):
            raise ConfigError(
                "engine.extra_args names an options file, but joulemark writes one itself",
                remedy="put what is in it into [engine.options]",
            )

    @property
    def runs_on(self) -> Literal["gpu"]:
        """A GPU."""
        return "gpu"

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs whose joules are this engine's."""
        return launching.gpu_list(self.gpus, self._needed, why="")

    @property
    def version_path(self) -> str:
        """Where the running server says its version."""
        return "/version"

    @property
    def energy_path(self) -> str | None:
        """Where it says the joules of its GPUs, as `total_energy_j`; None: it was not asked to."""
        return "/energy_metrics" if self.energy_metrics else None

    def prepare(self, *, port: int) -> TensorRtLlm:
        """With port and GPUs filled in, once the program is known to be there."""
        remedy = "install tensorrt-llm from NVIDIA's index, or set engine.image"
        return serving.prepared(self, port=port, program="trtllm-serve", remedy=remedy)

    def launch(self) -> LaunchSpec:
        """`trtllm-serve MODEL …` with its options file."""
        path = launching.scratch(f"trtllm-{self.port}.yaml")
        argv = ["trtllm-serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--backend", "pytorch", "--tp_size", str(self.tensor_parallel_size)]
        if self.pipeline_parallel_size > 1:
            argv += ["--pp_size", str(self.pipeline_parallel_size)]
        argv += serving.flags(
            {
                "--ep_size": self.expert_parallel_size,
                "--max_batch_size": self.max_batch_size,
                "--max_num_tokens": self.max_num_tokens,
                "--max_seq_len": self.max_seq_len,
                "--kv_cache_free_gpu_memory_fraction": self.kv_cache_free_gpu_memory_fraction,
                "--extra_llm_api_options": path,
            }
        )
        options = json.dumps(self._options(), indent=2) + "\n"
        return serving.launch(self, argv, files={path: options})

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Completions, in which prompts may be token ids."""
        return serving.endpoint(
            self, endpoint_type or "completions", extra_body=serving.RUNNING_USAGE
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token."""
        return {"ignore_eos": True}

    def counters(self) -> TensorRtLlmCounters:
        """The counters of `/prometheus/metrics`."""
        return TensorRtLlmCounters()

    def facts(self) -> dict[str, Any]:
        """Version, command, options, GPUs, and whether the weights are real."""
        return serving.facts(
            self,
            self.launch(),
            name="tensorrt-llm",
            distribution="tensorrt_llm",
            weights=serving.weights(self.load_format),
            options=self._options(),
        )

    def _options(self) -> dict[str, Any]:
        ours: dict[str, Any] = {"return_perf_metrics": True}
        if self.energy_metrics:
            ours["enable_energy_metrics"] = True
        if self.attention_dp:
            ours["enable_attention_dp"] = True
        if self.load_format != "auto":
            ours["load_format"] = self.load_format
        if not self.prefix_caching:
            ours["kv_cache_config"] = {"enable_block_reuse": False}
        return ours | dict(self.options)

    @property
    def _needed(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size


PLUGIN: type[Engine] = TensorRtLlm
