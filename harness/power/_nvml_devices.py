"""Chooses GPUs by index, UUID or MIG UUID, as CUDA_VISIBLE_DEVICES does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pynvml

from harness.errors import PowerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device: its handle, its UUID, and the names it was asked for by."""

    handle: Any
    uuid: str
    asked: str


def select(devices: Sequence[str]) -> list[Gpu]:
    """The devices asked for, each once, in the order asked."""
    count = pynvml.nvmlDeviceGetCount()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    asked = [str(device) for device in devices]
    where = "devices"
    if not asked and visible is not None:
        asked = [word.strip() for word in visible.split(",") if word.strip()]
        where = "CUDA_VISIBLE_DEVICES"
        if not asked or asked[0] == "-1":
            raise PowerUnavailableError(
                f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU",
                remedy="unset it, or name the GPUs with `--gpus`",
            )
    if not asked:
        asked = [str(index) for index in range(count)]
    found: dict[str, Gpu] = {}
    for name in asked:
        handle = _handle(name, count=count, where=where)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        found.setdefault(uuid, Gpu(handle=handle, uuid=uuid, asked=name))
    return list(found.values())


def _handle(name: str, *, count: int, where: str) -> Any:  # noqa: ANN401  a ctypes pointer
    if name.isdecimal():
        if int(name) >= count:
            raise PowerUnavailableError(
                f"{where} names GPU {name}, but NVML finds {count} (0 to {count - 1})",
                remedy=f"correct {where}",
            )
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    if name.startswith("MIG-"):
        try:
            slice_handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(slice_handle)
        except pynvml.NVMLError as error:
            raise PowerUnavailableError(
                f"{where} names {name}, whose parent GPU cannot be found ({error})",
                remedy="name the parent GPU by UUID or index",
            ) from error
    # As CUDA does: the beginning of a UUID is enough where it is unambiguous.
    matches = []
    for index in range(count):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        if pynvml.nvmlDeviceGetUUID(handle).startswith(name):
            matches.append(handle)
    if len(matches) != 1:
        raise PowerUnavailableError(
            f"{where} names {name!r}, which fits {len(matches)} of {count} GPUs",
            remedy=f"use an index below {count} or a whole UUID (`nvidia-smi -L`)",
        )
    return matches[0]
