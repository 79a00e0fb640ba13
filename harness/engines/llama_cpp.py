"""llama.cpp's own server, embedded through xllamacpp; the default where no GPU engine is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

from harness.contracts import Endpoint, EndpointType, Engine, LaunchSpec
from harness.dialects import LlamaCppCounters
from harness.errors import EngineError
from harness.models import resolve_gguf, sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCpp:
    """
    A llama.cpp server in a process of its own.

    Args:
        model: a name `joulemark model list` knows, or the path of a GGUF file.
        host: address it listens on.
        port: 0: the system chooses.
        context_tokens: context length of one slot.
        slots: requests served at the same time.
        threads: compute threads. None: one less than the machine has, at least
            one, because threads that spin on every core leave none to the client
            that times them.
        gpu_layers: layers put on a GPU; 0 keeps everything on the CPU. The
            wheel from PyPI is a CPU build, where more has no effect.
    """

    model: str = "smollm2-135m"
    host: str = "127.0.0.1"
    port: int = 0
    context_tokens: int = 2048
    slots: int = 4
    threads: int | None = None
    gpu_layers: int = 0

    @property
    def runs_on(self) -> Literal["gpu", "cpu"]:
        """The CPU, unless layers were put on a GPU."""
        return "gpu" if self.gpu_layers else "cpu"

    def prepare(self, *, port: int) -> LlamaCpp:
        """With the model's file, the port and the number of threads filled in."""
        return replace(
            self,
            model=str(resolve_gguf(self.model)),
            port=self.port or port,
            threads=self.threads or max(1, (os.cpu_count() or 2) - 1),
        )

    def launch(self) -> LaunchSpec:
        """This very file, run as a program."""
        return LaunchSpec(
            argv=[
                sys.executable,
                "-P",
                "-m",
                "harness.engines.llama_cpp",
                json.dumps(asdict(self)),
            ],
            ready_url=f"http://{self.host}:{self.port}/health",
            ready_timeout_s=120.0,
            host=self.host,
            port=self.port,
        )

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat by default; `timings_per_token` makes every chunk carry the running count."""
        return Endpoint(
            base_url=f"http://{self.host}:{self.port}",
            endpoint_type=endpoint_type or "chat",
            model=Path(self.model).stem,
            extra_body={"timings_per_token": True, "cache_prompt": False},
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """llama.cpp goes on past the end-of-sequence token when told to."""
        return {"ignore_eos": True}

    def counters(self) -> LlamaCppCounters:
        """The counters of `/metrics`."""
        return LlamaCppCounters()

    def facts(self) -> dict[str, Any]:
        """Version of the wheel, the model's checksum and the effective settings."""
        path = Path(self.model)
        return {
            "engine": "llama.cpp",
            "version": importlib.metadata.version("xllamacpp"),
            "model_file": path.name,
            "model_sha256": sha256_of(path) if path.is_file() else None,
            "weights": "real",
            "settings": {
                key: value for key, value in asdict(self).items() if key not in {"model", "port"}
            },
        }


def _serve(engine: LlamaCpp) -> None:
    """Run the server until SIGTERM; called in the engine's own process."""
    # Imported here: a 100 MB native library that only this process needs.
    import xllamacpp  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = engine.model
    params.hostnames = [engine.host]
    params.port = engine.port
    params.n_ctx = engine.context_tokens * engine.slots
    params.n_parallel = engine.slots
    params.n_gpu_layers = engine.gpu_layers
    params.cpuparams.n_threads = engine.threads
    params.cpuparams_batch.n_threads = engine.threads
    params.endpoint_metrics = True
    params.warmup = True
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        raise EngineError(
            f"llama.cpp could not load {engine.model}: {error}",
            remedy="check that it is a GGUF file; `joulemark model fetch` gets one that is",
        ) from error
    sys.stderr.write(f"listening on {server.listening_address}\n")
    stop.wait()
    # The native server's threads do not join reliably; the process ends here.
    os._exit(0)


PLUGIN: type[Engine] = LlamaCpp

if __name__ == "__main__":
    try:
        _serve(LlamaCpp(**json.loads(sys.argv[1])))
    except EngineError as error:
        sys.exit(f"{error}")
