"""Where a run came from: machine, operating system, versions; no names of people or hosts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

from . import __version__
from .clock import WallAnchor

_PACKAGES: Final = (
    "nvidia-ml-py",
    "xllamacpp",
    "vllm",
    "tensorrt-llm",
    "sglang",
    "ai-dynamo",
    "transformers",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "uvloop",
    "httptools",
    "orjson",
)


def collect(anchor: WallAnchor) -> dict[str, Any]:
    """
    What is known before the run starts.

    Args:
        anchor: ties the record's monotonic stamps to dates.
    """
    return {
        "joulemark": __version__,
        "anchor": {
            "t_monotonic_ns": anchor.t_monotonic_ns,
            "t_wall_ns": anchor.t_wall_ns,
            "uncertainty_ns": anchor.uncertainty_ns,
        },
        "machine": _machine(),
        "python": platform.python_version(),
        "packages": _packages(),
    }


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _proc_field("/proc/cpuinfo", "model name"),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_kib": _first_number(_proc_field("/proc/meminfo", "MemTotal")),
        "load_average_1min": _load_average(),
    }


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _proc_field(path: str, field: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == field:
            return value.strip()
    return None


def _first_number(text: str | None) -> int | None:
    head = (text or "").split()[:1]
    return int(head[0]) if head and head[0].isdigit() else None


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
