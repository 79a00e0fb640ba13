"""What a load can be made with: torch, else CuPy, else a stand-in that only pretends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

LIVE_VARIABLE = "JOULEMARK_GPU_CHECK_LIVE"
"""Names the emulator's live file; set: the loads are pretended."""
PRETENDED_W: Mapping[str, float] = {"idle": 70.0, "memory": 460.0, "compute": 690.0}
"""What the emulated GPU draws under each load: made up."""
CHUNK_S = 0.01
"""Work handed to the device at a time."""
_MATRIX = 8192
_COPY_BYTES = 4 << 30
_PRETENDED_MATRIX = 256
_PRETENDED_COPY_BYTES = 16 << 20


class Device(Protocol):
    """
    Something that can be loaded.

    Attributes:
        name: for the reader.
        flop: of one matrix product.
        copied_bytes: read and written by one copy.
    """

    name: str
    flop: float
    copied_bytes: float

    def enqueue(self, kind: str, count: int) -> None:
        """Begin *count* pieces of work; may return before they are done."""
        ...

    def wait(self, behind: int) -> None:
        """Return once all but the last *behind* enqueued batches are done."""
        ...

    def level(self, kind: str) -> int:
        """Note that *kind* of load begins; returns from when on the power is that of it."""
        ...


class _Torch:
    def __init__(self) -> None:
        import torch  # noqa: PLC0415 - only where there is one

        self._torch = torch
        if not torch.cuda.is_available():
            msg = "torch sees no CUDA device"
            raise RuntimeError(msg)
        self.name = f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}"
        options: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
        self._a = torch.randn(_MATRIX, _MATRIX, **options)
        self._b = torch.randn(_MATRIX, _MATRIX, **options)
        self._c = torch.empty(_MATRIX, _MATRIX, **options)
        free_bytes, _ = torch.cuda.mem_get_info()
        count = min(_COPY_BYTES, free_bytes // 4) // 4
        self._from = torch.randint(0, 1 << 30, (count,), device="cuda", dtype=torch.int32)
        self._to = torch.empty_like(self._from)
        self.flop, self.copied_bytes = 2.0 * _MATRIX**3, 2.0 * 4 * count
        self._events: list[Any] = []

    def enqueue(self, kind: str, count: int) -> None:
        for _ in range(count):
            if kind == "compute":
                self._torch.matmul(self._a, self._b, out=self._c)
            else:
                self._to.copy_(self._from)
        event = self._torch.cuda.Event(blocking=True)
        event.record()
        self._events.append(event)

    def wait(self, behind: int) -> None:
        while len(self._events) > behind:
            self._events.pop(0).synchronize()

    def level(self, kind: str) -> int:
        del kind
        return time.perf_counter_ns()


class _Cupy:
    """Half precision instead of bfloat16, which CuPy has not."""

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415 - same

        self._cupy = cupy
        self.name = f"cupy {cupy.__version__} in float16"
        self._a = cupy.random.standard_normal((_MATRIX, _MATRIX), dtype="f4").astype("f2")
        self._b, self._c = self._a.T.copy(), cupy.empty_like(self._a)
        self._from = cupy.random.standard_normal(_COPY_BYTES // 4, dtype="f4")
        self._to = cupy.empty_like(self._from)
        self.flop, self.copied_bytes = 2.0 * _MATRIX**3, 2.0 * self._from.nbytes
        self._events: list[Any] = []

    def enqueue(self, kind: str, count: int) -> None:
        for _ in range(count):
            if kind == "compute":
                self._cupy.matmul(self._a, self._b, out=self._c)
            else:
                self._cupy.copyto(self._to, self._from)
        event = self._cupy.cuda.Event(block=True)
        event.record()
        self._events.append(event)

    def wait(self, behind: int) -> None:
        while len(self._events) > behind:
            self._events.pop(0).synchronize()

    def level(self, kind: str) -> int:
        del kind
        return time.perf_counter_ns()


class Pretended:
    """A stand-in for where there is no GPU: real but tiny work, and a made-up power."""

    def __init__(self, live: Path) -> None:
        import numpy as np  # noqa: PLC0415 - same

        from harness.emulator.live import LiveWriter  # noqa: PLC0415 - same

        self._numpy = np
        self.name = f"PRETENDED: numpy {np.__version__} on the CPU, power made up"
        random = np.random.default_rng(1)
        self._a = random.standard_normal((_PRETENDED_MATRIX, _PRETENDED_MATRIX), dtype="f4")
        self._from = random.integers(0, 9, _PRETENDED_COPY_BYTES // 8)
        self._to = self._from.copy()
        self.flop, self.copied_bytes = 2.0 * _PRETENDED_MATRIX**3, 2.0 * self._from.nbytes
        self._writer = LiveWriter(live)

    def enqueue(self, kind: str, count: int) -> None:
        """One piece of work, and a rest."""
        # A stand-in need not keep a core busy that others measure on.
        if kind == "compute":
            self._a @ self._a
        else:
            self._numpy.copyto(self._to, self._from)
        time.sleep(min(count * 1e-4, CHUNK_S))

    def wait(self, behind: int) -> None:
        """Nothing is in flight."""
        del behind

    def level(self, kind: str) -> int:
        """Set the emulated power."""
        return self._writer.set_power_w(PRETENDED_W[kind])


def device(backend: str) -> Device:
    """
    The best there is.

    Raises:
        RuntimeError: there is no card, or neither torch nor CuPy.
    """
    live = os.environ.get(LIVE_VARIABLE)
    if live:
        return Pretended(Path(live))
    if backend != "cupy":
        try:
            return _Torch()
        except (ImportError, RuntimeError) as error:
            if backend == "torch":
                raise
            sys.stderr.write(f"loads: no torch ({error}); trying cupy\n")
    return _Cupy()
