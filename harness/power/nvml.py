"""Energy and power of NVIDIA GPUs, from the driver's own library (NVML)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import pynvml

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, PowerKind, ReadStatus

from . import _nvml_facts
from ._nvml_devices import Gpu, select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_JOULES_PER_MILLIJOULE: Final = 1e-3
_WATTS_PER_MILLIWATT: Final = 1e-3
_EMULATED: Final = "emulated"
"""Part of the driver version string that our emulator reports."""

_STATUS: Final[Mapping[int, ReadStatus]] = {
    pynvml.NVML_ERROR_UNINITIALIZED: ReadStatus.UNINITIALISED,
    pynvml.NVML_ERROR_NOT_SUPPORTED: ReadStatus.NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: ReadStatus.NOT_SUPPORTED,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: ReadStatus.NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION: ReadStatus.NO_PERMISSION,
    pynvml.NVML_ERROR_TIMEOUT: ReadStatus.TIMEOUT,
    pynvml.NVML_ERROR_GPU_IS_LOST: ReadStatus.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: ReadStatus.RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: ReadStatus.DRIVER_MISMATCH,
}

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


def _status(error: pynvml.NVMLError) -> ReadStatus:
    return _STATUS.get(error.value, ReadStatus.OTHER)


@dataclass(frozen=True, slots=True)
class _EnergyCall:
    handle: Any

    def __call__(self) -> list[tuple[float, ReadStatus]]:
        try:
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        except pynvml.NVMLError as error:
            return [(math.nan, _status(error))]
        return [(millijoules * _JOULES_PER_MILLIJOULE, ReadStatus.OK)]


class _FieldsCall:
    """Several fields of one GPU in one call, its argument built once."""

    __slots__ = ("_count", "_function", "_handle", "_values")

    def __init__(self, handle: Any, fields: Sequence[tuple[int, int]]) -> None:  # noqa: ANN401
        # The wrapper in pynvml makes the argument anew at each call, which costs
        # more than the call itself at 50 Hz on eight GPUs.
        self._handle = handle
        self._count = len(fields)
        self._values = (pynvml.c_nvmlFieldValue_t * self._count)()
        for value, (field, scope) in zip(self._values, fields, strict=True):
            value.fieldId, value.scopeId = field, scope
        self._function: Callable[..., int] = pynvml._nvmlGetFunctionPointer(  # noqa: SLF001
            "nvmlDeviceGetFieldValues"
        )

    def __call__(self) -> list[tuple[float, ReadStatus]]:
        code = self._function(self._handle, self._count, self._values)
        if code:
            return [(math.nan, _STATUS.get(code, ReadStatus.OTHER))] * self._count
        return [
            (value.value.uiVal * _WATTS_PER_MILLIWATT, ReadStatus.OK)
            if value.nvmlReturn == 0
            else (math.nan, _STATUS.get(value.nvmlReturn, ReadStatus.OTHER))
            for value in self._values
        ]


@dataclass(frozen=True, slots=True)
class _UsageCall:
    """Power on drivers too old for the fields."""

    handle: Any

    def __call__(self) -> list[tuple[float, ReadStatus]]:
        try:
            milliwatts = pynvml.nvmlDeviceGetPowerUsage(self.handle)
        except pynvml.NVMLError as error:
            return [(math.nan, _status(error))]
        return [(milliwatts * _WATTS_PER_MILLIWATT, ReadStatus.OK)]


class _Session:
    """What `Nvml.open` returns."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = gpus
        self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        kind: PowerKind = "emulated" if _EMULATED in self._driver else "measured"
        self.period_s: float | None = None
        self.calls: list[tuple[Channel, ...]] = []
        self._reads: list[Callable[[], list[tuple[float, ReadStatus]]]] = []
        for gpu in gpus:
            for channels, read in _probe(gpu, kind):
                self.calls.append(channels)
                self._reads.append(read)
        if not self.calls:
            raise PowerUnavailableError(
                f"none of {len(gpus)} GPUs answers any energy or power query (driver"
                f" {self._driver}; a vGPU, or a MIG slice seen from its container, has none)",
                remedy="meter on the host, or read its dcgm-exporter (`--power dcgm`)",
            )

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        return self._reads[call]()

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


def _probe(
    gpu: Gpu, kind: PowerKind
) -> list[tuple[tuple[Channel, ...], Callable[[], list[tuple[float, ReadStatus]]]]]:
    """What this GPU answers: its calls with their channels."""
    wanted = [
        (field, sense, scope, boundary) for scope, boundary in _SCOPES for field, sense in _FIELDS
    ]
    try:
        answers = _FieldsCall(gpu.handle, [(field, scope) for field, _, scope, _ in wanted])()
    except pynvml.NVMLError as error:
        answers = [(math.nan, _status(error))] * len(wanted)
    answered = [
        want for want, (_, status) in zip(wanted, answers, strict=True) if status == ReadStatus.OK
    ]
    boundaries = {boundary for *_, boundary in answered}
    if (
        "gpu_module" in boundaries
        and "gpu" in boundaries
        and not _nvml_facts.is_superchip(gpu.handle)
    ):
        # Off superchips a driver that answers for the module means the same board.
        answered = [want for want in answered if want[3] != "gpu_module"]
        boundaries.discard("gpu_module")
    calls: list[tuple[tuple[Channel, ...], Callable[[], list[tuple[float, ReadStatus]]]]] = []
    energy = _EnergyCall(gpu.handle)
    if energy()[0][1] == ReadStatus.OK:
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
                quantum=_WATTS_PER_MILLIWATT,
                sense=sense,
            )
            for field, sense, _, boundary in answered
        )
        fields = [(field, scope) for field, _, scope, _ in answered]
        calls.append((channels, _FieldsCall(gpu.handle, fields)))
    elif (usage := _UsageCall(gpu.handle))()[0][1] == ReadStatus.OK:
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
        quantum=_JOULES_PER_MILLIJOULE,
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
        quantum=_WATTS_PER_MILLIWATT,
        sense=sense,
    )


PLUGIN: type[PowerSource] = Nvml
