"""Builds the emulated `libnvidia-ml.so.1` with the system's C compiler, once per source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.errors import ConfigError

from .world import WORLD_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = Path(__file__).with_name("nvml.c")
LIBRARY_NAME: Final = "libnvidia-ml.so.1"
_FLAGS: Final = (
    "-std=gnu11",
    "-O2",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    # A fused multiply-add would round otherwise than numpy does in model.py.
    "-ffp-contract=off",
    f"-Wl,-soname,{LIBRARY_NAME}",
)
_LIBRARIES: Final = ("-lm", "-lpthread", "-ldl")


def cache_folder() -> Path:
    """Where built libraries are kept: `$XDG_CACHE_HOME/joulemark/emulator`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "joulemark" / "emulator"


def build(folder: Path | None = None) -> Path:
    """
    Build the library unless the same source has been built there before.

    Args:
        folder: where to put it; None: a folder of the cache named after the source's hash.

    Returns:
        The folder to put on LD_LIBRARY_PATH.

    Raises:
        ConfigError: there is no C compiler, or it failed.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(_FLAGS).encode()).hexdigest()[:16]
    target = cache_folder() / digest if folder is None else folder
    stamp = target / f".built-{digest}"
    if stamp.exists() and (target / LIBRARY_NAME).exists():
        return target
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise ConfigError(
            f"no C compiler {os.environ.get('CC', 'cc')!r} on PATH",
            remedy="install one (e.g. gcc), or name it in CC",
        )
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        made = Path(scratch) / LIBRARY_NAME
        command = [compiler, *_FLAGS, "-o", str(made), str(SOURCE), *_LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigError(
                f"the compiler {compiler} failed: {done.stderr.strip()[-500:]}",
                remedy="install the C library's headers, or name another compiler in CC",
            )
        # Renamed into place so that no process ever loads half a library.
        made.replace(target / LIBRARY_NAME)
    bare = target / "libnvidia-ml.so"
    if not bare.is_symlink():
        bare.symlink_to(LIBRARY_NAME)
    stamp.touch()
    return target


def environment(
    world_file: Path, *, library: Path, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """
    Make the environment of a process that shall see the emulated GPUs.

    Args:
        world_file: what `World.write` wrote.
        library: what `build` returned.
        base: what to add to; None: our own environment.
    """
    ours = dict(os.environ if base is None else base)
    others = ours.get("LD_LIBRARY_PATH")
    ours["LD_LIBRARY_PATH"] = f"{library}:{others}" if others else str(library)
    ours[WORLD_VARIABLE] = str(world_file.absolute())
    return ours
