"""What NVML says of a GPU besides its power: settings, temperature, throttling, other tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_THROTTLE_FIELDS: Final[Mapping[str, int]] = {
    # Units differ between drivers and fields (ns, us), so the number is kept raw:
    # what counts is whether it moved.
    "power_policy": 74,
    "thermal_policy": 75,
    "sync_boost": 76,
    "board_limit": 77,
    "low_utilisation": 78,
    "reliability": 79,
    "sw_thermal": 269,
    "hw_thermal": 270,
    "hw_power_brake": 271,
}


def attempt(call: Callable[[], Any]) -> Any:  # noqa: ANN401  NVML answers in many types
    """The answer, or None where this GPU or driver has none."""
    try:
        answer = call()
    except pynvml.NVMLError:
        return None
    return answer.decode() if isinstance(answer, bytes) else answer


def is_superchip(handle: Any) -> bool:  # noqa: ANN401  a ctypes pointer
    """Whether GPU and CPU share a module (Grace), by the link between them."""
    info = attempt(lambda: pynvml.nvmlDeviceGetC2cModeInfoV(handle))
    return bool(info is not None and info.isC2cEnabled)


def facts(handle: Any) -> dict[str, Any]:  # noqa: ANN401  a ctypes pointer
    """Everything about one GPU that its watts depend on; None: not available."""

    def milli(call: Callable[[], Any]) -> float | None:
        value = attempt(call)
        return None if value is None else value / 1e3

    device = {
        "index": attempt(lambda: pynvml.nvmlDeviceGetIndex(handle)),
        "name": attempt(lambda: pynvml.nvmlDeviceGetName(handle)),
        "vbios": attempt(lambda: pynvml.nvmlDeviceGetVbiosVersion(handle)),
        "architecture": attempt(lambda: pynvml.nvmlDeviceGetArchitecture(handle)),
        "persistence_mode": attempt(lambda: pynvml.nvmlDeviceGetPersistenceMode(handle)),
        "mig_mode": (attempt(lambda: pynvml.nvmlDeviceGetMigMode(handle)) or [None])[0],
        "superchip": is_superchip(handle),
        "power_limit_w": milli(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
        "power_limit_default_w": milli(
            lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
        ),
        "sm_clock_mhz": attempt(lambda: pynvml.nvmlDeviceGetClockInfo(handle, 1)),
        "memory_clock_mhz": attempt(lambda: pynvml.nvmlDeviceGetClockInfo(handle, 2)),
        "sm_clock_max_mhz": attempt(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, 1)),
        "temperature_c": attempt(lambda: pynvml.nvmlDeviceGetTemperature(handle, 0)),
        "throttle_reasons": attempt(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        "throttle_counters": _throttle_counters(handle),
    }
    processes = attempt(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    device["compute_pids"] = None if processes is None else [item.pid for item in processes]
    return device


def _throttle_counters(handle: Any) -> dict[str, int]:  # noqa: ANN401  a ctypes pointer
    values = attempt(
        lambda: pynvml.nvmlDeviceGetFieldValues(handle, list(_THROTTLE_FIELDS.values()))
    )
    if values is None:
        return {}
    return {
        name: value.value.ullVal
        for name, value in zip(_THROTTLE_FIELDS, values, strict=True)
        if value.nvmlReturn == 0
    }
