"""NVIDIA Dynamo: a frontend and its workers as one engine, aggregated or disaggregated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import DynamoCounters

from . import _launching as launching
from . import _serving as serving

Role = Literal["both", "prefill", "decode"]
_FIRST_SIDE_CHANNEL: Final = 20097
_BOOTSTRAP_PORT: Final = 12345
_PLANES: Final = (
    "--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq",
)  # fmt: skip
"""No etcd and no NATS: workers on one machine find each other through a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamo:
    """
    `dynamo.frontend` with workers of one backend, on one machine.

    Seen with ai-dynamo 1.6.1: the real frontend with its mocker workers. Workers of
    the other backends were never started by us: their commands follow
    examples/backends/*/launch/agg.sh and disagg.sh of ai-dynamo/dynamo, and
    `make test-flags` holds their flags against the wheel of 1.6.1. What differs from
    the documentation: a plain `pip install ai-dynamo` fails, see
    tests/heavy/dynamo.sh; `nvext.ignore_eos` is refused (400) while `ignore_eos`
    beside the prompt works; the ZMQ sockets of KV events bind all addresses,
    whatever DYN_EVENT_PLANE_HOST says; DYN_SYSTEM_PORT is read as a signed 16-bit
    number, so a port above 32767 ends a worker at once.

    With `mocker` the engine is simulated: tokens are random and come at the
    speed of a model, so that such a run measures nothing but the path to it.

    Args:
        model: Hugging Face name or folder.
        host: address the frontend listens on.
        port: of the frontend; the workers' system ports lie between 20000 and 30000,
            one after the other. 0: the system chooses.
        backend: what the workers run.
        mode: `disaggregated`: prompts and outputs are computed by different workers.
        workers: of an aggregated deployment.
        prefill_workers: of a disaggregated one.
        decode_workers: of a disaggregated one.
        tensor_parallel_size: GPUs of each worker.
        max_model_len: context length; None: the model's own.
        prefix_caching: False: workers keep no prefix.
        gpus: indices in NVML's order; empty: the first ones.
        router_mode: how the frontend deals requests out.
        python: the interpreter that has Dynamo.
        ready_timeout_s: until the model is served.
        image: run each process in a container of this image, e.g.
            `nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.6.1`.
        image_runtime: what runs the containers.
        image_args: further options of `docker run`.
        worker_args: passed through to every worker.
        prefill_args: passed through to prefill workers.
        decode_args: passed through to decode workers.
        extra_args: passed through to the frontend.
        environment: variables added to ours, for all processes.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    backend: Literal["vllm", "sglang", "trtllm", "mocker"] = "vllm"
    mode: Literal["aggregated", "disaggregated"] = "aggregated"
    workers: int = 1
    prefill_workers: int = 1
    decode_workers: int = 1
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    prefix_caching: bool = True
    gpus: tuple[int, ...] = ()
    router_mode: str = "round-robin"
    python: str = "python3"
    ready_timeout_s: float = 1800.0
    image: str = ""
    image_runtime: Literal["docker", "podman"] = "docker"
    image_args: tuple[str, ...] = ()
    worker_args: tuple[str, ...] = ()
    prefill_args: tuple[str, ...] = ()
    decode_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        launching.sizes_at_least_one(
            workers=self.workers,
            prefill_workers=self.prefill_workers,
            decode_workers=self.decode_workers,
            tensor_parallel_size=self.tensor_parallel_size,
        )
        launching.gpu_list(self.gpus, self._needed, why="all workers' tensor parallel sizes")

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """A GPU, except that the mocker computes nothing."""
        return "cpu" if self.backend == "mocker" else "gpu"

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs whose joules are this engine's, all workers together."""
        return launching.gpu_list(self.gpus, self._needed, why="")

    @property
    def gpus_by_role(self) -> dict[str, tuple[int, ...]]:
        """Which GPUs compute prompts and which outputs; they coincide where aggregated."""
        found: dict[str, tuple[int, ...]] = {}
        for role, own in self._placed():
            found[role] = found.get(role, ()) + own
        return found

    @property
    def version_path(self) -> str:
        """The frontend's health page lists its workers' endpoints."""
        return "/health"

    @property
    def settings_line(self) -> str:
        """What its vLLM workers log; of several, the first one's."""
        return serving.VLLM_SETTINGS if self.backend == "vllm" else ""

    def prepare(self, *, port: int) -> Dynamo:
        """With port and GPUs filled in, once the interpreter is known to be there."""
        remedy = "name the interpreter that has Dynamo with `-s engine.python=…`"
        return serving.prepared(self, port=port, program=self.python, remedy=remedy)

    def launch(self) -> LaunchSpec:
        """Frontend and workers, which meet in a folder made for them."""
        folder = launching.scratch(f"dynamo-{self.port}")
        shared = {"DYN_FILE_KV": folder, **self.environment}
        frontend = [self.python, "-m", "dynamo.frontend", "--http-host", self.host]
        frontend += ["--http-port", str(self.port), *_PLANES, "--router-mode", self.router_mode]
        programs = [launching.Program(argv=(*frontend, *self.extra_args), environment=shared)]
        files: dict[str, str] = {}
        for place, (role, own) in enumerate(self._placed()):
            variables = {**shared, "DYN_SYSTEM_PORT": str(_system_port(self.port) + place)}
            if own:
                variables |= launching.visible(own)
            if self.backend == "vllm" and role != "both":
                variables["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(_FIRST_SIDE_CHANNEL + place)
            argv = self._worker(role, files)
            programs.append(launching.Program(argv=tuple(argv), environment=variables))
        return serving.together(
            self,
            programs,
            files=files,
            folders=[folder],
            # Up at once, the frontend knows no model until a worker has loaded it.
            ready_path=f"/v1/models#{self.model}",
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Of the frontend."""
        return serving.endpoint(self, endpoint_type or "completions")

    def fixed_length(self) -> Mapping[str, Any]:
        """Goes on past the end-of-sequence token; `nvext` is not the place for it."""
        return {"ignore_eos": True}

    def counters(self) -> DynamoCounters:
        """The frontend's counters."""
        return DynamoCounters()

    def facts(self) -> dict[str, Any]:
        """Version, commands, GPUs by role; says where the engine is a simulation."""
        mocked = self.backend == "mocker"
        return serving.facts(
            self,
            self.launch(),
            name="dynamo",
            distribution="ai-dynamo",
            weights="none: the mocker makes up tokens and their timing" if mocked else "real",
            gpus_by_role={role: list(own) for role, own in self.gpus_by_role.items()},
        )

    def _worker(self, role: Role, files: dict[str, str]) -> list[str]:
        argv = [self.python, "-m", f"dynamo.{self.backend}"]
        match self.backend:
            case "mocker":
                argv += ["--model-path", self.model, "--model-name", self.model, *_PLANES]
                argv += ["--engine-type", "vllm", *self._vllm_flags()]
                if role != "both":
                    argv += ["--disaggregation-mode", role]
            case "vllm":
                argv += ["--model", self.model, *_PLANES]
                argv += ["--tensor-parallel-size", str(self.tensor_parallel_size)]
                argv += self._vllm_flags()
                argv += ["--kv-events-config", json.dumps({"enable_kv_cache_events": False})]
                if role != "both":
                    transfer = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
                    argv += ["--disaggregation-mode", role]
                    argv += ["--kv-transfer-config", json.dumps(transfer)]
            case "sglang":
                argv += ["--model-path", self.model, "--served-model-name", self.model, *_PLANES]
                argv += ["--tp-size", str(self.tensor_parallel_size), "--enable-metrics"]
                argv += serving.flags(
                    {
                        "--context-length": self.max_model_len,
                        "--disable-radix-cache": not self.prefix_caching,
                    }
                )
                if role != "both":
                    argv += ["--disaggregation-mode", role, "--host", self.host]
                    argv += ["--disaggregation-bootstrap-port", str(_BOOTSTRAP_PORT)]
                    argv += ["--disaggregation-transfer-backend", "nixl"]
            case "trtllm":
                path = launching.scratch(f"dynamo-{self.port}-{role}.yaml")
                files[path] = json.dumps(self._trtllm_options(role), indent=2) + "\n"
                argv += ["--model-path", self.model, "--served-model-name", self.model, *_PLANES]
                argv += ["--extra-engine-args", path]
                if role != "both":
                    argv += ["--disaggregation-mode", role]
        own = {"both": (), "prefill": self.prefill_args, "decode": self.decode_args}[role]
        return [*argv, *self.worker_args, *own]

    def _vllm_flags(self) -> list[str]:
        return serving.flags(
            {
                "--max-model-len": self.max_model_len,
                "--no-enable-prefix-caching": not self.prefix_caching,
            }
        )

    def _trtllm_options(self, role: Role) -> dict[str, Any]:
        options: dict[str, Any] = {
            "backend": "pytorch",
            "tensor_parallel_size": self.tensor_parallel_size,
            "return_perf_metrics": True,
        }
        if self.max_model_len is not None:
            options["max_seq_len"] = self.max_model_len
        if not self.prefix_caching:
            options["kv_cache_config"] = {"enable_block_reuse": False}
        if role != "both":
            options["cache_transceiver_config"] = {"backend": "DEFAULT"}
        if role == "prefill":
            options["disable_overlap_scheduler"] = True
        return options

    def _placed(self) -> list[tuple[Role, tuple[int, ...]]]:
        """Each worker's role and GPUs, in the order they are started."""
        roles: list[Role] = ["both"] * self.workers
        if self.mode == "disaggregated":
            roles = ["decode"] * self.decode_workers
            roles += ["prefill"] * self.prefill_workers
        size = 0 if self.backend == "mocker" else self.tensor_parallel_size
        indices = self.gpu_indices
        return [
            (role, indices[place * size : (place + 1) * size]) for place, role in enumerate(roles)
        ]

    @property
    def _needed(self) -> int:
        if self.backend == "mocker":
            return 0
        apart = self.mode == "disaggregated"
        count = self.prefill_workers + self.decode_workers if apart else self.workers
        return count * self.tensor_parallel_size


def _system_port(port: int) -> int:
    """The first worker's; it must fit into a signed 16-bit number."""
    return 20_000 + port % 10_000


PLUGIN: type[Engine] = Dynamo
