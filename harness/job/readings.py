"""What a batch job's node had drawn and generated at one instant: the daemon's word, and NVML's."""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness import plugins
from harness.ask import ask
from harness.errors import JoulemarkError, StoreError
from harness.files import write_atomically
from harness.timeline import ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S: Final = 3.0
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """
    One GPU's own energy counter.

    Args:
        uuid: of the GPU.
        minor: the N of its /dev/nvidiaN, which Slurm counts GPUs by; None: not known, or
            the GPU is cut into MIG devices, which Slurm counts in a way of its own.
        boundary: what the counter covers.
        power_kind: `measured`, or `emulated`.
        energy_j: joules since the driver was loaded.
    """

    uuid: str
    minor: int | None
    boundary: str
    power_kind: str
    energy_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    Everything read at one instant, kept as it was said.

    Args:
        t_s: Unix time.
        exposition: the daemon's metrics; None where it did not give them.
        exposition_fault: why not.
        counters: of every GPU that NVML shows; empty where it shows none.
        counters_fault: why not.
    """

    t_s: float
    exposition: str | None
    exposition_fault: str | None
    counters: tuple[Counter, ...]
    counters_fault: str | None


def take(url: str, headers: Mapping[str, str]) -> Reading:
    """Read the daemon and NVML; what cannot be read is noted, never raised."""
    t_s = time.time()
    text, text_fault = None, None
    try:
        status, body = ask("GET", url, headers=headers, timeout_s=_TIMEOUT_S)
        text = body.decode() if status == _OK else None
        text_fault = None if status == _OK else f"{url} answers {status}"
    except (JoulemarkError, UnicodeDecodeError) as error:
        text_fault = str(error)
    try:
        counters, counters_fault = _counters(), None
    except JoulemarkError as error:
        counters, counters_fault = (), str(error)
    return Reading(
        t_s=t_s,
        exposition=text,
        exposition_fault=text_fault,
        counters=counters,
        counters_fault=counters_fault,
    )


def _counters() -> tuple[Counter, ...]:
    import pynvml  # noqa: PLC0415 - loads the driver's library

    session = plugins.load("power", "nvml")().open()
    try:
        found = []
        for number, (first, *_) in enumerate(session.calls):
            if first.quantity != "energy":
                continue
            value, status = session.read(number)[0]
            if status != ReadStatus.OK:
                continue
            minor = None
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(first.device)
                minor = pynvml.nvmlDeviceGetMinorNumber(handle)
                if pynvml.nvmlDeviceGetMigMode(handle)[0]:
                    minor = None
            except pynvml.NVMLError_NotSupported:
                pass  # a GPU that knows no MIG
            except pynvml.NVMLError:
                minor = None
            found.append(
                Counter(
                    uuid=first.device,
                    minor=minor,
                    boundary=first.boundary,
                    power_kind=first.power_kind,
                    energy_j=value,
                )
            )
        return tuple(found)
    finally:
        session.close()


def keep(reading: Reading, folder: Path, job_id: str) -> Path:
    """
    Write a reading into *folder*, which must be ours alone.

    Raises:
        StoreError: others could write there, or we cannot.
    """
    path = own(folder, mode=0o700) / f"{job_id}.json"
    write(path, orjson.dumps(dataclasses.asdict(reading)))
    return path


def kept(folder: Path, job_id: str) -> Reading | None:
    """The reading of the job's begin; None where there is none that can be used."""
    try:
        raw: dict[str, Any] = orjson.loads((folder / f"{job_id}.json").read_bytes())
        raw["counters"] = tuple(Counter(**one) for one in raw["counters"])
        return Reading(**raw)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def forget(folder: Path, job_id: str) -> None:
    """Remove the reading of the job's begin."""
    (folder / f"{job_id}.json").unlink(missing_ok=True)


def own(folder: Path, *, mode: int) -> Path:
    """
    The folder, made if it is missing.

    The scripts run as root: a folder that others may write to could hold a link that
    leads root's pen elsewhere.

    Raises:
        StoreError: it is no folder of ours, or others may write to it.
    """
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(mode)
        about = folder.lstat()
    except OSError as error:
        raise StoreError(
            f"cannot make {folder}: {error.strerror}", remedy="name another folder"
        ) from error
    shared = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or shared:
        raise StoreError(
            f"{folder} is not a folder that this user alone may write to",
            remedy="name another, or chown and chmod it",
        )
    return folder


def write(path: Path, data: bytes) -> None:
    """
    Write a file whole.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}", remedy="free some space"
        ) from error
