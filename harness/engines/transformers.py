"""Hugging Face transformers, started as `transformers serve`."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformers:
    """
    One transformers server; seen with transformers 5.23 and torch 2.13.

    It refuses `ignore_eos`, so answers may be shorter than asked; it has no
    `/metrics`; usage rides on the chunk with the finish reason and no `[DONE]`
    follows.

    Args:
        model: Hugging Face name or folder.
        host: address it listens on.
        port: 0: the system chooses.
        device: `gpu` (CUDA) or `cpu`.
        continuous_batching: batch requests that overlap.
        ready_timeout_s: until it answers `/health`; models load at the first request.
        extra_args: passed through to `transformers serve`.
        environment: variables added to ours.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 0
    device: Literal["gpu", "cpu"] = "gpu"
    continuous_batching: bool = True
    ready_timeout_s: float = 600.0
    extra_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """As the option says."""
        return self.device

    def prepare(self, *, port: int) -> Transformers:
        """With the port filled in, once the program is known to be there."""
        if shutil.which("transformers") is None:
            raise EngineError(
                "there is no program `transformers` on PATH",
                remedy="install it beside joulemark: `pip install 'transformers[serving]'`",
            )
        return replace(self, port=self.port or port)

    def launch(self) -> LaunchSpec:
        """`transformers serve MODEL …`."""
        argv = ["transformers", "serve", self.model, "--host", self.host, "--port", str(self.port)]
        argv += ["--device", "cuda" if self.device == "gpu" else "cpu"]
        if self.continuous_batching:
            argv.append("--continuous-batching")
        return LaunchSpec(
            argv=[*argv, *self.extra_args],
            ready_url=f"http://{self.host}:{self.port}/health",
            ready_timeout_s=self.ready_timeout_s,
            host=self.host,
            port=self.port,
            environment=self.environment,
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat, the form it was made for."""
        return Endpoint(
            base_url=f"http://{self.host}:{self.port}",
            endpoint_type=endpoint_type or "chat",
            model=self.model,
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """Nothing: `ignore_eos` is refused as an unexpected field."""
        return {}

    def counters(self) -> None:
        """It has none."""

    def facts(self) -> dict[str, Any]:
        """Version and settings."""
        try:
            version = importlib.metadata.version("transformers")
        except importlib.metadata.PackageNotFoundError:
            version = None
        return {
            "engine": "transformers",
            "version": version,
            "weights": None,
            "settings": {key: value for key, value in asdict(self).items() if key != "port"},
        }


PLUGIN: type[Engine] = Transformers
