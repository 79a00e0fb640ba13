"""Any server with an OpenAI-compatible API that runs already, here or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from harness import dialects
from harness.contracts import Endpoint, EndpointType, Engine, TokenCounters
from harness.errors import ConfigError

from . import _launching as launching


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """
    A URL and a model's name.

    Args:
        url: scheme, host and port; a trailing `/v1` is dropped.
        model: the value of the request's `model` field.
        runs_on: what the model's arithmetic runs on: `gpu` or `cpu` of *this*
            machine, or `elsewhere`, where this machine's joules are not its joules.
        server: which engine it is, so that its counters can be read and its answers
            be made exactly as long as asked; `other`: neither.
        gpus: indices of the GPUs it runs on, in NVML's order; empty: those of the two
            lists below, or all.
        prefill_gpus: of a disaggregated deployment, those of its prefill workers; their
            joules are then told apart from those of decode.
        decode_gpus: those of its decode workers.
        fixed_length_body: JSON fields that make this server's answers exactly as
            long as asked; empty: what *server* needs.
        extra_body: JSON fields added to every request.
        headers: HTTP headers added to every request.
        api_key: bearer key; kept out of the record.
    """

    url: str
    model: str
    runs_on: Literal["gpu", "cpu", "elsewhere"] = "elsewhere"
    server: Literal[
        "other", "vllm", "sglang", "tensorrt_llm", "dynamo", "llama_cpp", "transformers"
    ] = "other"
    gpus: tuple[int, ...] = ()
    prefill_gpus: tuple[int, ...] = ()
    decode_gpus: tuple[int, ...] = ()
    fixed_length_body: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"engine.url is {self.url!r}, not an http or https address",
                remedy="write e.g. http://127.0.0.1:8000",
            )
        launching.roles(self.prefill_gpus, self.decode_gpus)

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs whose joules are this engine's; empty: not said."""
        named = self.gpus or (*self.prefill_gpus, *self.decode_gpus)
        return named if self.runs_on == "gpu" else ()

    @property
    def version_path(self) -> str:
        """Where servers of this kind say their version; empty: not known."""
        paths = {"vllm": "/version", "tensorrt_llm": "/version", "sglang": "/server_info"}
        return paths.get(self.server, "")

    def prepare(self, *, port: int) -> Attach:
        """Nothing is left open."""
        del port
        return self

    def launch(self) -> None:
        """It runs already."""

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat, unless told otherwise."""
        return Endpoint(
            base_url=self.url.rstrip("/").removesuffix("/v1"),
            endpoint_type=endpoint_type or "chat",
            model=self.model,
            extra_body={**self._running_count(), **self.extra_body},
            headers=self.headers,
            api_key=self.api_key,
        )

    def _running_count(self) -> dict[str, Any]:
        """What makes every chunk carry the running count of tokens, where the server can."""
        if self.server in {"vllm", "sglang", "tensorrt_llm"}:
            return {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        return {"timings_per_token": True} if self.server == "llama_cpp" else {}

    def fixed_length(self) -> Mapping[str, Any]:
        """What the user says this server needs, or what servers of its kind need."""
        if self.fixed_length_body:
            return self.fixed_length_body
        return {} if self.server in {"other", "transformers"} else {"ignore_eos": True}

    def counters(self) -> TokenCounters | None:
        """Of the kind of server that the user says it is."""
        return dialects.ALL.get(self.server)

    def facts(self) -> dict[str, Any]:
        """The address and what the user says of it."""
        settings = asdict(self) | {"api_key": "set" if self.api_key else None}
        settings["headers"] = dict.fromkeys(self.headers, "set")
        return {
            "engine": "attach",
            "version": None,
            "weights": None,
            "gpus_by_role": launching.roles(self.prefill_gpus, self.decode_gpus),
            "settings": settings,
        }


PLUGIN: type[Engine] = Attach
