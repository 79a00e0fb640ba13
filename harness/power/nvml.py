"""Energy and power of NVIDIA GPUs, from the driver's own library (NVML)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import pynvml

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, PowerKind, ReadStatus

from . import _nvml_facts, _nvml_queries
from ._nvml_devices import Gpu, select
from ._nvml_queries import UNIT, Batch, Query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EMULATED: Final = "emulated"
"""Part of the driver version string that our emulator reports."""

_REMEDY: Final[Mapping[int, str]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "install the NVIDIA driver; in a container, start it with `--gpus all`"
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "load the NVIDIA driver (`nvidia-smi` must work)",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "reboot, or reload the kernel module: the driver was upgraded while it was loaded"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: "give this user access to /dev/nvidia*",
}

_SCOPES: Final[tuple[tuple[int, Boundary], ...]] = (
    (pynvml.NVML_POWER_SCOPE_GPU, "gpu"),
    (pynvml.NVML_POWER_SCOPE_MODULE, "gpu_module"),
    (pynvml.NVML_POWER_SCOPE_MEMORY, "gpu_memory"),
)
_FIELDS: Final[tuple[tuple[int, Literal["instant", "average"]], ...]] = (
    (pynvml.NVML_FI_DEV_POWER_INSTANT, "instant"),
    (pynvml.NVML_FI_DEV_POWER_AVERAGE, "average"),
)


def kind_of(driver: str) -> PowerKind:
    """What readings under a driver of this version are: the emulator's says that it is one."""
    return "emulated" if _EMULATED in driver else "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvml:
    """
    Per GPU: the total-energy counter, and instant and average power in one call.

    What a GPU answers is found by asking it, field by field and scope by scope,
    never from its name. On a Grace superchip the energy counter covers the whole
    module (GPU, CPU and memory), so its boundary is `gpu_module`.

    Args:
        devices: indices, UUIDs, or MIG UUIDs (metered as their parent GPU, since
            a MIG slice has no sensor); empty: those of CUDA_VISIBLE_DEVICES, or all.
    """

    devices: tuple[str, ...] = ()

    def open(self) -> _Session:
        """
        Start NVML and probe each device.

        Raises:
            PowerUnavailableError: no driver, no device, or no device with a sensor.
        """
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise PowerUnavailableError(
                f"NVML does not start ({error})",
                remedy=_REMEDY.get(error.value, "check that `nvidia-smi` works"),
            ) from error
        try:
            return _Session(select(self.devices))
        except pynvml.NVMLError as error:
            pynvml.nvmlShutdown()
            raise PowerUnavailableError(
                f"NVML finds no usable GPU ({error})",
                remedy=_REMEDY.get(error.value, "check that `nvidia-smi` lists the GPU"),
            ) from error
        except PowerUnavailableError:
            pynvml.nvmlShutdown()
            raise


class _Session:
    """What `Nvml.open` returns."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = gpus
        self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        kind = kind_of(self._driver)
        self.period_s: float | None = None
        self.calls: list[tuple[Channel, ...]] = []
        self._queries: list[Query] = []
        for gpu in gpus:
            for channels, query in _probe(gpu, kind):
                self.calls.append(channels)
                self._queries.append(query)
        self._alone = [Batch([query]) for query in self._queries]
        if not self.calls:
            raise PowerUnavailableError(
                f"none of {len(gpus)} GPUs answers any energy or power query (driver"
                f" {self._driver}; a vGPU, or a MIG slice seen from its container, has none)",
                remedy="meter on the host, or read its dcgm-exporter (`--power dcgm`)",
            )

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        return self._alone[call].read()

    def batch(self, calls: Sequence[int]) -> Batch:
        return Batch([self._queries[call] for call in calls])

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        return {
            "driver": self._driver,
            "nvml": _nvml_facts.attempt(pynvml.nvmlSystemGetNVMLVersion),
            "gpus": {gpu.uuid: _nvml_facts.facts(gpu.handle) for gpu in self._gpus},
        }

    def close(self) -> None:
        # A lost GPU may make even the shutdown fail; there is nothing left to do then.
        _nvml_facts.attempt(pynvml.nvmlShutdown)


def _answers(query: Query) -> list[bool]:
    return [status == ReadStatus.OK for _, status in Batch([query]).read()]


def _probe(gpu: Gpu, kind: PowerKind) -> list[tuple[tuple[Channel, ...], Query]]:
    """What this GPU answers: its queries with their channels."""
    wanted = [
        (field, sense, scope, boundary) for scope, boundary in _SCOPES for field, sense in _FIELDS
    ]
    tried = _nvml_queries.power(gpu.handle, [(field, scope) for field, _, scope, _ in wanted])
    answered = [want for want, here in zip(wanted, _answers(tried), strict=True) if here]
    boundaries = {boundary for *_, boundary in answered}
    if (
        "gpu_module" in boundaries
        and "gpu" in boundaries
        and not _nvml_facts.is_superchip(gpu.handle)
    ):
        # Off superchips a driver that answers for the module means the same board.
        answered = [want for want in answered if want[3] != "gpu_module"]
        boundaries.discard("gpu_module")
    calls: list[tuple[tuple[Channel, ...], Query]] = []
    energy = _nvml_queries.energy(gpu.handle)
    if all(_answers(energy)):
        boundary: Boundary = "gpu_module" if "gpu_module" in boundaries else "gpu"
        calls.append(((_energy_channel(gpu, kind, boundary),), energy))
    if answered:
        channels = tuple(
            Channel(
                name=f"nvml:{gpu.uuid}:{sense}:{boundary}",
                quantity="power",
                boundary=boundary,
                device=gpu.uuid,
                power_kind=kind,
                method=f"NVML field {field} ({sense} power), scope {boundary}",
                quantum=UNIT,
                sense=sense,
            )
            for field, sense, _, boundary in answered
        )
        fields = [(field, scope) for field, _, scope, _ in answered]
        calls.append((channels, _nvml_queries.power(gpu.handle, fields)))
    elif all(_answers(usage := _nvml_queries.usage(gpu.handle))):
        calls.append(((_usage_channel(gpu, kind),), usage))
    return calls


def _energy_channel(gpu: Gpu, kind: PowerKind, boundary: Boundary) -> Channel:
    return Channel(
        name=f"nvml:{gpu.uuid}:energy",
        quantity="energy",
        boundary=boundary,
        device=gpu.uuid,
        power_kind=kind,
        method=f"NVML total energy consumption since the driver was loaded, of the {boundary}",
        quantum=UNIT,
        sense="counter",
    )


def _usage_channel(gpu: Gpu, kind: PowerKind) -> Channel:
    # NVML's documentation: a 1 s average from Ampere on, except GA100.
    architecture = _nvml_facts.attempt(lambda: pynvml.nvmlDeviceGetArchitecture(gpu.handle))
    averaged = isinstance(architecture, int) and architecture >= pynvml.NVML_DEVICE_ARCH_AMPERE
    sense: Literal["average", "instant"] = "average" if averaged else "instant"
    return Channel(
        name=f"nvml:{gpu.uuid}:usage",
        quantity="power",
        boundary="gpu",
        device=gpu.uuid,
        power_kind=kind,
        method=f"NVML power usage ({sense}, as its documentation says of this architecture)",
        quantum=UNIT,
        sense=sense,
    )


PLUGIN: type[PowerSource] = Nvml
