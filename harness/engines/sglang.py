"""SGLang, started as `python3 -m sglang.launch_server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import SglangCounters

from . import _launching as launching
from . import _serving as serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Sglang:
    """
    One SGLang server. Never started by us: its wheels need CUDA.

    Options: https://docs.sglang.io/docs/advanced_features/server_arguments, and
    read in the wheel of 0.5.23 (srt/arg_groups/fields, srt/server_args.py), against
    which `make test-flags` holds every flag we may give. `--enable-metrics` is
    always set, since without it nothing is counted. What differs from older
    documentation: `--dp-size N --enable-dp-attention` is deprecated and goes after
    2026-12-31, `--attn-dp-size N` has taken its place; `/get_server_info` is
    deprecated for `/server_info`.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: GPUs the layers are dealt out to.
        data_parallel_size: replicas behind the one server.
        expert_parallel_size: GPUs the experts are spread over; None: as with tensors.
        dp_attention: data-parallel attention inside the tensor-parallel group, so
            that replicas of the attention take no further GPUs (0.5.23 and newer; of
            an older SGLang, give its own flags as extra_args).
        gpus: indices in NVML's order; empty: the first ones.
        context_length: None: the model's own.
        max_running_requests: requests in one batch at most; None: SGLang's choice.
        mem_fraction_static: share of memory for weights and cache; None: SGLang's choice.
        prefix_caching: False: `--disable-radix-cache`.
        load_format: `dummy` makes random weights, which the record then says.
        python: the interpreter that has SGLang.
        ready_timeout_s: loading and capturing graphs takes minutes.
        image: run it in a container of this image, e.g. `lmsysorg/sglang:latest`.
        image_runtime: what runs the container.
        image_args: further options of `docker run`.
        extra_args: passed through to the server.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel_size: int | None = None
    dp_attention: bool = False
    gpus: tuple[int, ...] = ()
    context_length: int | None = None
    max_running_requests: int | None = None
    mem_fraction_static: float | None = None
    prefix_caching: bool = True
    load_format: str = "auto"
    python: str = "python3"
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
            expert_parallel_size=self.expert_parallel_size,
        )
        launching.gpu_list(self.gpus, self._needed, why="tensor x pipeline x data parallel")

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
        """Where the running server says its version and its effective settings."""
        return "/server_info"

    def prepare(self, *, port: int) -> Sglang:
        """With port and GPUs filled in, once the interpreter is known to be there."""
        remedy = "name the interpreter that has SGLang with `-s engine.python=…`"
        return serving.prepared(self, port=port, program=self.python, remedy=remedy)

    def launch(self) -> LaunchSpec:
        """`python3 -m sglang.launch_server --model-path MODEL …`."""
        argv = [self.python, "-m", "sglang.launch_server", "--model-path", self.model]
        argv += ["--host", self.host, "--port", str(self.port), "--enable-metrics"]
        # Else usage does not say how much of a prompt came from the cache.
        argv += ["--enable-cache-report", "--tp-size", str(self.tensor_parallel_size)]
        if self.pipeline_parallel_size > 1:
            argv += ["--pp-size", str(self.pipeline_parallel_size)]
        if self.data_parallel_size > 1:
            argv += ["--attn-dp-size" if self.dp_attention else "--dp-size"]
            argv += [str(self.data_parallel_size)]
        argv += serving.flags(
            {
                "--ep-size": self.expert_parallel_size,
                "--context-length": self.context_length,
                "--max-running-requests": self.max_running_requests,
                "--mem-fraction-static": self.mem_fraction_static,
                "--disable-radix-cache": not self.prefix_caching,
                "--load-format": None if self.load_format == "auto" else self.load_format,
            }
        )
        return serving.launch(self, argv)

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Completions, in which prompts may be token ids."""
        return serving.endpoint(
            self, endpoint_type or "completions", extra_body=serving.RUNNING_USAGE
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token."""
        return {"ignore_eos": True}

    def counters(self) -> SglangCounters:
        """The counters of `/metrics`."""
        return SglangCounters()

    def facts(self) -> dict[str, Any]:
        """Version, command, GPUs, and whether the weights are real."""
        weights = serving.weights(self.load_format)
        return serving.facts(
            self, self.launch(), name="sglang", distribution="sglang", weights=weights
        )

    @property
    def _needed(self) -> int:
        replicas = 1 if self.dp_attention else self.data_parallel_size
        return self.tensor_parallel_size * self.pipeline_parallel_size * replicas


PLUGIN: type[Engine] = Sglang
