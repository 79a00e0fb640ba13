"""What of a started engine goes into the record: its version, commands and options, no secrets."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness.contracts import LaunchSpec

from ._launching import Container
from ._several import plan_of

_PYTHON: Final = re.compile(r"/[^\s\"']*python[0-9.]*")
_HEAD_BYTES: Final = 1024
_VERSION_S: Final = 20.0
_HIDDEN: Final = re.compile(r"(key|token|secret|password)$", re.IGNORECASE)


def shown(argv: Sequence[str]) -> list[str]:
    """A command line as it may be recorded: values of keys and tokens said to be just `set`."""
    found: list[str] = []
    hide = False
    for part in argv:
        name, equals, _ = part.partition("=")
        if hide:
            found.append("set")
        elif equals and _HIDDEN.search(name):
            found.append(f"{name}=set")
        else:
            found.append(part)
        hide = not equals and part.startswith("-") and bool(_HIDDEN.search(part))
    return found


def version_of(distribution: str, container: Container, program: str) -> str | None:
    """
    The version of what would be started, or the image it runs in; None: not known here.

    An engine usually lives in an environment of its own, so the interpreter of
    the program that PATH gives is asked, not ours.

    Args:
        distribution: its name on PyPI.
        container: the image, if any.
        program: a Python interpreter, or a script that names one in its first line.
    """
    if container.image:
        return f"image {container.image}"
    python = _interpreter(program)
    if python is None:
        return None
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _interpreter(program: str) -> str | None:
    """The Python that runs a program of PATH; None: there is none, or it is no script."""
    path = shutil.which(program)
    if path is None or Path(path).name.startswith("python"):
        return path
    with Path(path).open("rb") as file:
        # pip writes `#!PYTHON`, and for a long path a line of shell that begins with its name.
        head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    found = _PYTHON.search(head)
    return found[0] if found and head.startswith("#!") else None


def recorded(spec: LaunchSpec) -> list[list[str]]:
    """The command line of each process, as it goes into the record."""
    home = str(Path.home())
    return [
        [part.replace(home, "~") for part in shown(program["argv"])]
        for program in plan_of(spec.argv)["programs"]
    ]


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's options as they go into the record: no port, no secrets."""
    kept = {key: value for key, value in values.items() if key != "port"}
    kept["extra_args"] = shown(kept.get("extra_args", ()))
    kept["environment"] = {
        key: "set" if _HIDDEN.search(key) else value
        for key, value in kept.get("environment", {}).items()
    }
    return kept
