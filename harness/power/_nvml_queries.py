"""Queries to NVML that are made again and again: arguments built once, answers read together."""

from __future__ import annotations

import ctypes
import math
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pynvml

from harness.timeline import ReadStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

UNIT: Final = 1e-3
"""NVML counts millijoules and milliwatts."""

_STATUS: Final[Mapping[int, ReadStatus]] = {
    pynvml.NVML_SUCCESS: ReadStatus.OK,
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
_FIELD: Final = pynvml.c_nvmlFieldValue_t
_FIELD_BYTES: Final = ctypes.sizeof(_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """
    One call into the driver.

    Args:
        handle: the GPU's, a ctypes pointer.
        function: its name; `nvmlDeviceGetFieldValues`, or one that gives one number.
        fields: field and scope of each value asked for; empty: there is one number.
        members: what of an nvmlFieldValue_t is read, in the words of `struct`: its
            nvmlReturn, and its value as a 32-bit (I) or a 64-bit (Q) number.
    """

    handle: Any
    function: str
    fields: tuple[tuple[int, int], ...] = ()
    members: str = "28xiI4x"

    @property
    def values(self) -> int:
        """How many numbers it gives."""
        return len(self.fields) or 1


def energy(handle: Any) -> Query:  # noqa: ANN401  a ctypes pointer
    """Energy since the driver was loaded."""
    name = "nvmlDeviceGetTotalEnergyConsumption"
    return Query(handle=handle, function=name, members="28xiQ")


def usage(handle: Any) -> Query:  # noqa: ANN401
    """Power, from drivers too old for the fields."""
    return Query(handle=handle, function="nvmlDeviceGetPowerUsage")


def power(handle: Any, fields: Sequence[tuple[int, int]]) -> Query:  # noqa: ANN401
    """Several power fields in one call, each with its scope."""
    return Query(handle=handle, function="nvmlDeviceGetFieldValues", fields=tuple(fields))


class Batch:
    """
    Some queries, made one after another and then read together.

    All of them write into one piece of memory, an nvmlFieldValue_t a value (a single
    number is written where such a structure has its value), so that one call of
    `struct` reads all. pynvml's wrappers would build arguments at each call, and its
    structures convert each member that is looked at.
    """

    __slots__ = ("_answering", "_calls", "_memory", "_unpack", "asks")

    def __init__(self, queries: Sequence[Query]) -> None:
        self._calls = [call for call, query in enumerate(queries) for _ in range(query.values)]
        self._answering = [ReadStatus.OK] * len(self._calls)
        self._memory = (_FIELD * len(self._calls))()
        members = "".join(query.members * query.values for query in queries)
        self._unpack = struct.Struct("=" + members).unpack_from
        self.asks: list[Callable[[], int]] = []
        first = 0
        for query in queries:
            self.asks.append(self._bind(query, first))
            first += query.values

    def _bind(self, query: Query, first: int) -> Callable[[], int]:
        try:
            function = pynvml._nvmlGetFunctionPointer(query.function)  # noqa: SLF001
        except pynvml.NVMLError as error:
            # A driver without this function answers as a GPU without this sensor does.
            return partial(int, error.value)
        start = first * _FIELD_BYTES
        if not query.fields:
            number = ctypes.byref(self._memory, start + _FIELD.value.offset)
            return partial(function, query.handle, number)
        for place, (field, scope) in enumerate(query.fields, first):
            self._memory[place].fieldId, self._memory[place].scopeId = field, scope
        return partial(function, query.handle, query.values, ctypes.byref(self._memory, start))

    def answers(self, returned: Sequence[int]) -> tuple[list[float], list[ReadStatus]]:
        """Joules or watts, NaN where there is none, and why, of all values in their order."""
        found = self._unpack(self._memory)
        counts, codes = found[1::2], found[::2]
        if not any(returned) and not any(codes):
            return [count * UNIT for count in counts], self._answering
        faults = [returned[call] or code for call, code in zip(self._calls, codes, strict=True)]
        values = [
            math.nan if fault else count * UNIT for count, fault in zip(counts, faults, strict=True)
        ]
        return values, [_STATUS.get(fault, ReadStatus.OTHER) for fault in faults]

    def read(self) -> list[tuple[float, ReadStatus]]:
        """Make all its calls; value and status of each."""
        return list(zip(*self.answers([ask() for ask in self.asks]), strict=True))
