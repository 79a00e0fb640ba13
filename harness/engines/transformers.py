"""Hugging Face transformers, started as `transformers serve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec

from . import _launching as launching
from . import _serving as serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformers:
    """
    One transformers server; seen with transformers 5.23 and torch 2.13.

    Options: `transformers serve --help` of 5.23.0.

    What differs from OpenAI's API: it refuses `ignore_eos` as an unexpected
    field, so answers may be shorter than asked; a prompt must be a string, not token
    ids; it has no `/metrics`; usage rides
    on the chunk with the finish reason and no `[DONE]` follows; `/v1/models`
    answers 500 with HF_HUB_OFFLINE=1. Without continuous batching requests are
    served one after the other.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        device: `gpu` (CUDA) or `cpu`.
        gpus: one index in NVML's order; empty: the first.
        continuous_batching: batch requests that overlap.
        cb_num_blocks: cache blocks of continuous batching; None: its choice, which
            took 12 GB for a model of 135 M parameters on a CPU.
        random_weights: say that the folder holds random weights; goes into the record.
        ready_timeout_s: until it answers `/health`; models load at the first request.
        image: run it in a container of this image.
        image_runtime: what runs the container.
        image_args: further options of `docker run`.
        extra_args: passed through to `transformers serve`.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    device: Literal["gpu", "cpu"] = "gpu"
    gpus: tuple[int, ...] = ()
    continuous_batching: bool = True
    cb_num_blocks: int | None = None
    random_weights: bool = False
    ready_timeout_s: float = 600.0
    image: str = ""
    image_runtime: Literal["docker", "podman"] = "docker"
    image_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        launching.gpu_list(self.gpus, 1, why="one transformers server")

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """As the option says."""
        return self.device

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPU whose joules are this engine's."""
        return launching.gpu_list(self.gpus, 1, why="") if self.device == "gpu" else ()

    def prepare(self, *, port: int) -> Transformers:
        """With the port filled in, once the program is known to be there."""
        remedy = "install it beside joulemark: `pip install 'transformers[serving]'`"
        return serving.prepared(self, port=port, program="transformers", remedy=remedy)

    def launch(self) -> LaunchSpec:
        """`transformers serve MODEL …`."""
        argv = ["transformers", "serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--device", "cuda" if self.device == "gpu" else "cpu"]
        if self.continuous_batching:
            argv.append("--continuous-batching")
            argv += serving.flags({"--cb-num-blocks": self.cb_num_blocks})
        return serving.launch(self, argv)

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat, the form it was made for."""
        return serving.endpoint(self, endpoint_type or "chat", takes_token_ids=False)

    def fixed_length(self) -> Mapping[str, Any]:
        """Nothing: `ignore_eos` is refused as an unexpected field."""
        return {}

    def counters(self) -> None:
        """It has none."""

    def facts(self) -> dict[str, Any]:
        """Version, command, GPU, and whether the weights are real."""
        weights = "random" if self.random_weights else None
        return serving.facts(
            self, self.launch(), name="transformers", distribution="transformers", weights=weights
        )


PLUGIN: type[Engine] = Transformers
