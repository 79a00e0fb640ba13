"""Times NVML's calls one by one, each alone and power beside a thread that reads the energy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml

from .recording import write_json

FIELDS = {83: "total energy", 185: "average power", 186: "instant power"}
BESIDE = "field 186 while another thread reads the energy"
"""Whether power can be read meanwhile: that slow counters have a thread rests on it."""
_CALLS = 100
_SPACING_S = 0.004
"""Between two calls timed: 250 a second at most, since much faster reading is said to do harm."""


def record(path: Path) -> None:
    """What one call of each kind costs, and what a field's own stamp and latency say."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        answers: dict[str, Any] = {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "nvml": pynvml.nvmlSystemGetNVMLVersion(),
            "name": pynvml.nvmlDeviceGetName(handle),
            "calls": {},
        }
        chosen: dict[str, Callable[[], Any]] = {
            "nvmlDeviceGetTotalEnergyConsumption": lambda: (
                pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            ),
            "nvmlDeviceGetPowerUsage": lambda: pynvml.nvmlDeviceGetPowerUsage(handle),
        }
        for field, words in FIELDS.items():
            chosen[f"field {field} ({words})"] = lambda field=field: _fields(handle, [field])
        chosen["fields 185 and 186 in one call"] = lambda: _fields(handle, [185, 186])
        for scope, name in ((1, "module"), (2, "memory")):
            chosen[f"field 185, scope {name}"] = lambda scope=scope: _fields(handle, [(185, scope)])
        chosen["field 191 (energy, undocumented)"] = lambda: _fields(handle, [191])
        for name, call in chosen.items():
            answers["calls"][name] = _timed(call)
        with _meanwhile(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)):
            answers["calls"][BESIDE] = _timed(lambda: _fields(handle, [186]))
        write_json(path, answers)
    finally:
        pynvml.nvmlShutdown()


@contextlib.contextmanager
def _meanwhile(call: Callable[[], Any]) -> Iterator[None]:
    """Make the same call again and again in another thread; an error of it ends that."""
    done = threading.Event()

    def repeat() -> None:
        with contextlib.suppress(pynvml.NVMLError):
            while not done.is_set():
                call()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _fields(handle: Any, fields: list[Any]) -> list[list[float]]:  # noqa: ANN401 - a pointer
    """[value, stamp in us, latency in us] of each field asked for."""
    values = pynvml.nvmlDeviceGetFieldValues(handle, fields)
    for value in values:
        if value.nvmlReturn:
            raise pynvml.NVMLError(value.nvmlReturn)
    return [
        [
            float(v.value.ullVal if v.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                  else v.value.uiVal),
            float(v.timestamp),
            float(v.latencyUsec),
        ]
        for v in values
    ]  # fmt: skip


def _timed(call: Callable[[], Any]) -> dict[str, Any]:
    took_us: list[float] = []
    first: Any = None
    last: Any = None
    wall_us = 0.0
    for _ in range(_CALLS):
        began_ns = time.perf_counter_ns()
        try:
            last = call()
        except pynvml.NVMLError as error:
            return {"error": str(error), "code": error.value}
        took_us.append((time.perf_counter_ns() - began_ns) / 1e3)
        wall_us = time.time() * 1e6
        first = last if first is None else first
        time.sleep(_SPACING_S)
    took_us.sort()
    return {
        "calls": len(took_us),
        "us": {
            "p50": took_us[len(took_us) // 2],
            "p99": took_us[int(len(took_us) * 0.99)],
            "max": took_us[-1],
        },
        "first": first,
        "last": last,
        "wall_us_at_last": wall_us,
    }
