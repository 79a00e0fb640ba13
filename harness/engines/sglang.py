"""SGLang, started as `python3 -m sglang.launch_server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import SglangCounters

from . import _launching as launching


@dataclass(frozen=True, slots=True, kw_only=True)
class Sglang:
    """
    One SGLang server. Not run here: its wheels need CUDA.

    Options: https://docs.sglang.io/docs/advanced_features/server_arguments.
    `--enable-metrics` is always set, since without it nothing is counted.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: GPUs the layers are dealt out to.
        data_parallel_size: replicas behind the one server.
        expert_parallel_size: GPUs the experts are spread over; None: as with tensors.
        dp_attention: data-parallel attention inside the tensor-parallel group, so
            that replicas of the attention take no further GPUs.
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
        launching.check_program(
            self.python,
            container=self._container,
            remedy="name the interpreter that has SGLang with `-s engine.python=…`",
        )
        return replace(self, port=self.port or port, gpus=self.gpu_indices)

    def launch(self) -> LaunchSpec:
        """`python3 -m sglang.launch_server --model-path MODEL …`."""
        argv = [self.python, "-m", "sglang.launch_server", "--model-path", self.model]
        argv += ["--host", self.host, "--port", str(self.port), "--enable-metrics"]
        argv += ["--tp-size", str(self.tensor_parallel_size)]
        if self.pipeline_parallel_size > 1:
            argv += ["--pp-size", str(self.pipeline_parallel_size)]
        if self.data_parallel_size > 1:
            argv += ["--dp-size", str(self.data_parallel_size)]
        if self.dp_attention:
            argv.append("--enable-dp-attention")
        for flag, value in (
            ("--ep-size", self.expert_parallel_size),
            ("--context-length", self.context_length),
            ("--max-running-requests", self.max_running_requests),
            ("--mem-fraction-static", self.mem_fraction_static),
        ):
            if value is not None:
                argv += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
        if not self.prefix_caching:
            argv.append("--disable-radix-cache")
        if self.load_format != "auto":
            argv += ["--load-format", self.load_format]
        program = launching.Program(
            argv=(*argv, *self.extra_args),
            environment={**launching.visible(self.gpu_indices), **self.environment},
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
        """Continuous usage makes every chunk carry the running count, where the version has it."""
        return Endpoint(
            base_url=f"http://{self.host}:{self.port}",
            endpoint_type=endpoint_type or "completions",
            model=self.model,
            extra_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token."""
        return {"ignore_eos": True}

    def counters(self) -> SglangCounters:
        """The counters of `/metrics`."""
        return SglangCounters()

    def facts(self) -> dict[str, Any]:
        """Version, command, GPUs, and whether the weights are real."""
        return {
            "engine": "sglang",
            "version": launching.version_of("sglang", self._container),
            "weights": "random" if self.load_format == "dummy" else "real",
            "gpus": list(self.gpu_indices),
            "command": launching.recorded(self.launch()),
            "settings": launching.settings(asdict(self)),
        }

    @property
    def _needed(self) -> int:
        replicas = 1 if self.dp_attention else self.data_parallel_size
        return self.tensor_parallel_size * self.pipeline_parallel_size * replicas

    @property
    def _container(self) -> launching.Container:
        return launching.Container(
            image=self.image, runtime=self.image_runtime, extra_args=self.image_args
        )


PLUGIN: type[Engine] = Sglang
