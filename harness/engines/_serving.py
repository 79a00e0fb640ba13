"""What engines that are one server have in common: start, endpoint, GPUs' order, facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from harness.contracts import Endpoint, EndpointType, LaunchSpec

from . import _launching as launching
from . import _recording as recording
from ._several import plan_of

RUNNING_USAGE: Final[Mapping[str, Any]] = {
    "stream_options": {"include_usage": True, "continuous_usage_stats": True}
}
"""Makes every chunk carry the running count of tokens."""

VLLM_SETTINGS: Final = r"Initializing a V\d LLM engine \(v[^)]*\) with config: (.*)"


class Server(Protocol):
    """The options that every such engine has."""

    @property
    def model(self) -> str:
        """Hugging Face name or folder."""
        ...

    @property
    def host(self) -> str:
        """Address it listens on."""
        ...

    @property
    def port(self) -> int:
        """0: the system chooses."""
        ...

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """The GPUs whose joules are this engine's."""
        ...

    @property
    def ready_timeout_s(self) -> float:
        """How long its start may take."""
        ...

    @property
    def image(self) -> str:
        """Run it in a container of this image; empty: as it is installed here."""
        ...

    @property
    def image_runtime(self) -> str:
        """What runs the container."""
        ...

    @property
    def image_args(self) -> tuple[str, ...]:
        """Further options of its `run`."""
        ...

    @property
    def extra_args(self) -> tuple[str, ...]:
        """Passed through."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables added to ours."""
        ...


T = TypeVar("T", bound=Server)


def container(engine: Server) -> launching.Container:
    """The image it runs in, if any."""
    return launching.Container(
        image=engine.image, runtime=engine.image_runtime, extra_args=engine.image_args
    )


def prepared(engine: T, *, port: int, program: str, remedy: str) -> T:
    """
    With port and GPUs filled in, once what starts it is known to be there.

    Raises:
        EngineError: neither *program* nor, with an image, the container runtime is on PATH.
    """
    launching.check_program(program, container=container(engine), remedy=remedy)
    known = {"port": engine.port or port, "gpus": engine.gpu_indices}
    return dataclasses.replace(engine, **known)  # type: ignore[type-var]


def flags(values: Mapping[str, str | float | bool | None]) -> list[str]:
    """Options as words: True is the flag alone; None and False say nothing."""
    words: list[str] = []
    for flag, value in values.items():
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def launch(
    engine: Server,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> LaunchSpec:
    """
    How it is started, with the user's own arguments and variables last.

    Args:
        engine: its options.
        argv: the command line that they make.
        environment: variables that it needs beside those that choose its GPUs.
        files: path to content; written before the start and removed after the end.
    """
    chosen = launching.visible(engine.gpu_indices)
    program = launching.Program(
        argv=(*argv, *engine.extra_args),
        environment={**(environment or {}), **chosen, **engine.environment},
    )
    return together(engine, [program], files=files)


def together(
    engine: Server,
    programs: Sequence[launching.Program],
    *,
    files: Mapping[str, str] | None = None,
    folders: Sequence[str] = (),
    ready_path: str = "/health",
) -> LaunchSpec:
    """
    The same of an engine that is several processes.

    Args:
        engine: its options.
        programs: its processes.
        files: path to content; written before the start and removed after the end.
        folders: made empty before the start and removed after the end.
        ready_path: answers once requests may be sent.
    """
    whole, variables = launching.together(
        programs,
        container=container(engine),
        port=engine.port,
        files=files,
        folders=folders,
        # A name of the Hugging Face hub is no folder; its cache is mounted anyhow.
        mounts=[engine.model] if engine.model.startswith("/") else [],
    )
    return LaunchSpec(
        argv=whole,
        ready_url=f"http://{engine.host}:{engine.port}{ready_path}",
        ready_timeout_s=engine.ready_timeout_s,
        host=engine.host,
        port=engine.port,
        environment=variables,
    )


def endpoint(
    engine: Server,
    endpoint_type: EndpointType,
    *,
    extra_body: Mapping[str, Any] | None = None,
    takes_token_ids: bool = True,
) -> Endpoint:
    """Where it answers, and what every request to it carries or may hold."""
    return Endpoint(
        base_url=f"http://{engine.host}:{engine.port}",
        endpoint_type=endpoint_type,
        model=engine.model,
        extra_body=extra_body or {},
        takes_token_ids=takes_token_ids,
    )


def facts(
    engine: Server,
    spec: LaunchSpec,
    *,
    name: str,
    distribution: str,
    weights: str | None,
    **more: object,
) -> dict[str, Any]:
    """
    What goes into the record: version, command lines, GPUs, effective options.

    Args:
        engine: its options.
        spec: how it is started.
        name: of the engine.
        distribution: its name on PyPI.
        weights: `real`, `random`, or another word for what they are; None: not known.
        more: whatever this engine adds.
    """
    values = dataclasses.asdict(engine)  # type: ignore[call-overload]
    program = plan_of(spec.argv)["programs"][0]["argv"][0]
    return {
        "engine": name,
        "version": recording.version_of(distribution, container(engine), program),
        "weights": weights,
        "gpus": list(engine.gpu_indices),
        "command": recording.recorded(spec),
        **more,
        "settings": recording.settings(values),
    }


def weights(load_format: str) -> str:
    """What the record says of the weights: `dummy` ones are random."""
    return "random" if load_format == "dummy" else "real"
