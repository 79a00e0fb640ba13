"""What all started engines share: which GPUs, which container, which version, what may be shown."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ConfigError, EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """
    One process of an engine.

    Args:
        argv: the command line.
        environment: variables added to ours.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    The image an engine runs in.

    Args:
        image: name and tag; empty: the engine runs without a container.
        runtime: the program that runs containers, `docker` or `podman`.
        extra_args: further options of `run`, e.g. `--volume`.
    """

    image: str = ""
    runtime: str = "docker"
    extra_args: tuple[str, ...] = ()

    def command(
        self, program: Program, *, name: str, gpus: Sequence[int], files: Sequence[str]
    ) -> list[str]:
        """
        `docker run …` or `podman run …` for *program*.

        The network is the host's, so that ports mean the same inside and outside,
        and the client's path to the engine crosses no proxy.

        Args:
            program: its first word replaces the image's entry point; its
                environment becomes `--env`.
            name: of the container; it is removed by this name when the engine ends.
            gpus: indices; empty: none.
            files: files and folders of the host that it needs at the same path.
        """
        argv = [self.runtime, "run", "--rm", "--name", name, "--network", "host"]
        # NCCL passes tensors between a node's GPUs through shared memory.
        argv += ["--ipc", "host"]
        if gpus and self.runtime == "podman":
            for gpu in gpus:
                argv += ["--device", f"nvidia.com/gpu={gpu}"]
        elif gpus:
            argv += ["--gpus", f'"device={",".join(map(str, gpus))}"']
        cache = Path("~/.cache/huggingface").expanduser()
        argv += ["--volume", f"{cache}:/root/.cache/huggingface"]
        for path in files:
            argv += ["--volume", f"{path}:{path}"]
        # By name alone: its value stays off the command line and out of the record.
        argv += ["--env", "HF_TOKEN"]
        for key, value in program.environment.items():
            # Inside, the chosen GPUs are numbered from 0 and all of them are seen.
            if key not in {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}:
                argv += ["--env", f"{key}={value}"]
        argv += [*self.extra_args, "--entrypoint", program.argv[0], self.image]
        return [*argv, *program.argv[1:]]


def gpu_list(chosen: Sequence[int], needed: int, *, why: str) -> tuple[int, ...]:
    """
    The GPUs an engine runs on, by their index in NVML's order.

    Args:
        chosen: by the user; empty: the first of CUDA_VISIBLE_DEVICES, or of all.
        needed: what the parallel layout takes.
        why: the layout, for the message.

    Returns:
        Indices; empty where CUDA_VISIBLE_DEVICES says it in another way, which is
        then left as it is.

    Raises:
        ConfigError: *chosen* and *needed* do not fit.
    """
    if not chosen:
        said = os.environ.get("CUDA_VISIBLE_DEVICES")
        if said is None:
            return tuple(range(needed))
        parts = [part.strip() for part in said.split(",")]
        plain = all(part.isdecimal() for part in parts) and len(parts) >= needed
        return tuple(int(part) for part in parts[:needed]) if plain else ()
    if len(set(chosen)) != len(chosen) or min(chosen) < 0:
        raise ConfigError(
            f"engine.gpus is {list(chosen)}", remedy="name each GPU once, by its index from 0"
        )
    if len(chosen) != needed:
        raise ConfigError(
            f"engine.gpus names {len(chosen)} GPUs, but {why} takes {needed}",
            remedy="name as many, or change the parallel sizes",
        )
    return tuple(chosen)


def roles(prefill: Sequence[int], decode: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """
    Which GPUs compute prompts and which outputs, of a deployment that keeps them apart.

    Args:
        prefill: indices in NVML's order; empty, like *decode*: they are not apart.
        decode: the same.

    Raises:
        ConfigError: only one role has GPUs, or a GPU has both.
    """
    if not prefill and not decode:
        return {}
    if not prefill or not decode or set(prefill) & set(decode):
        raise ConfigError(
            f"engine.prefill_gpus is {list(prefill)}, engine.decode_gpus {list(decode)}",
            remedy="name GPUs for both, and none twice",
        )
    return {"prefill": tuple(prefill), "decode": tuple(decode)}


def visible(gpus: Sequence[int]) -> dict[str, str]:
    """CUDA's variables for these GPUs, numbered as NVML numbers them; none for none."""
    if not gpus:
        return {}
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
    }


def sizes_at_least_one(**sizes: int | None) -> None:
    """
    Refuse a parallel size below 1.

    Raises:
        ConfigError: naming it.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ConfigError(f"engine.{name} is {size}, below 1", remedy="set at least 1")


def check_program(name: str, *, container: Container, remedy: str) -> None:
    """
    Make sure that what starts the engine is installed.

    Raises:
        EngineError: neither it nor, with an image, the container runtime is on PATH.
    """
    if container.image:
        name, remedy = container.runtime, f"install {container.runtime}, or set no image"
    if shutil.which(name) is None:
        raise EngineError(f"there is no program `{name}` on PATH", remedy=remedy)


def together(
    programs: Sequence[Program],
    *,
    container: Container,
    port: int,
    files: Mapping[str, str] | None = None,
    folders: Sequence[str] = (),
    mounts: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """
    The one command line that starts an engine, however many processes it is made of.

    Args:
        programs: its processes.
        container: the image each of them runs in, if any.
        port: makes the containers' names unique.
        files: path to content; written before the start and removed after the end.
        folders: made empty before the start and removed after the end.
        mounts: what else of the host a container must see, at the same path.

    Returns:
        argv and environment: the program itself, or our small supervisor
        (`harness.engines._several`) with all of them.
    """
    files = files or {}
    if len(programs) == 1 and not container.image and not files and not folders:
        return list(programs[0].argv), dict(programs[0].environment)
    started, removed = [], []
    for place, program in enumerate(programs):
        if container.image:
            name = f"joulemark-{port}-{place}"
            said = program.environment.get("CUDA_VISIBLE_DEVICES", "")
            argv = container.command(
                program,
                name=name,
                gpus=[int(part) for part in said.split(",") if part],
                files=[*files, *folders, *mounts],
            )
            started.append({"argv": argv, "environment": {}})
            removed.append([container.runtime, "rm", "--force", name])
        else:
            started.append({"argv": [*program.argv], "environment": {**program.environment}})
    plan = {"programs": started, "afterwards": removed, "files": files, "folders": [*folders]}
    return [sys.executable, "-P", "-m", "harness.engines._several", json.dumps(plan)], {}


def scratch(name: str) -> str:
    """A path for a file or folder that lives as long as the engine."""
    return str(Path(tempfile.gettempdir()) / f"joulemark-{name}")
