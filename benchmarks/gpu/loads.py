"""
Loads of known work on a GPU, made by a process of their own: products, copies, pulses.

    python -m benchmarks.gpu.loads [--backend any|torch|cupy]

It is told what to do by lines of JSON on stdin and answers in lines of JSON on stdout; `Worker`
is the other side. Under the emulator a stand-in on the CPU does a little arithmetic of its own and
writes the power that each kind of load is pretended to draw into the emulator's live file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any, Self

from .devices import CHUNK_S, Device, Pretended, device


class _Worker:
    """Does what the lines say."""

    def __init__(self, loaded: Device) -> None:
        self._device = loaded
        self._seconds = {kind: self._calibrate(kind) for kind in ("compute", "memory")}

    def facts(self) -> dict[str, Any]:
        return {
            "device": self._device.name,
            "matrix_flop": self._device.flop,
            "copy_bytes": self._device.copied_bytes,
            "piece_s": self._seconds,
            "pretended": isinstance(self._device, Pretended),
        }

    def _calibrate(self, kind: str) -> float:
        self._device.enqueue(kind, 3)
        self._device.wait(0)
        began = time.perf_counter()
        self._device.enqueue(kind, 10)
        self._device.wait(0)
        return (time.perf_counter() - began) / 10

    def hold(self, kind: str, seconds: float) -> dict[str, Any]:
        """One kind of load for a while; `idle` keeps everything in place and does nothing."""
        start_ns = self._device.level(kind)
        if kind == "idle":
            time.sleep(seconds)
            return {"kind": kind, "start_ns": start_ns, "end_ns": time.perf_counter_ns()}
        done = self._until(kind, start_ns + int(seconds * 1e9))
        end_ns = self._device.level("idle")
        return {
            "kind": kind,
            "start_ns": start_ns,
            "end_ns": end_ns,
            "flop": done * self._device.flop if kind == "compute" else 0.0,
            "bytes": done * self._device.copied_bytes if kind == "memory" else 0.0,
        }

    def _until(self, kind: str, end_ns: int) -> int:
        """Work until then, with no more than two batches in flight; pieces done."""
        chunk = max(1, round(CHUNK_S / self._seconds[kind]))
        done = 0
        while (left_ns := end_ns - time.perf_counter_ns()) > 0:
            count = max(1, min(chunk, int(left_ns / 1e9 / self._seconds[kind])))
            self._device.enqueue(kind, count)
            done += count
            self._device.wait(1)
        self._device.wait(0)
        return done

    def square(
        self, kind: str, *, on_s: float, off_s: float, seconds: float, start_at_ns: int
    ) -> dict[str, Any]:
        """Pulses of a load on a grid of their own clock, the first at *start_at_ns*."""
        pulses = []
        period_ns = int((on_s + off_s) * 1e9)
        for number in range(int(seconds * 1e9 / period_ns)):
            due_ns = start_at_ns + number * period_ns
            while (left_ns := due_ns - time.perf_counter_ns()) > 0:
                # The last bit is spun: a sleep may be late by more than a pulse's edge may be.
                if left_ns > 2_000_000:
                    time.sleep((left_ns - 1_500_000) / 1e9)
            begun_ns = self._device.level(kind)
            self._until(kind, due_ns + int(on_s * 1e9))
            pulses.append([begun_ns, self._device.level("idle")])
        return {"kind": kind, "pulses": pulses, "on_s": on_s, "off_s": off_s}


def main() -> None:
    """Serve stdin until it ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=("any", "torch", "cupy"), default="any")
    try:
        worker = _Worker(device(parser.parse_args().backend))
    except Exception as error:  # noqa: BLE001 - whatever a driver throws is told to the other side
        sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    sys.stdout.write(json.dumps(worker.facts()) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        what = order.pop("do")
        try:
            answer = worker.square(**order) if what == "square" else worker.hold(what, **order)
        except Exception as error:  # noqa: BLE001 - same
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Worker:
    """The load process as its user sees it; ends with the `with` block."""

    def __init__(self, *, backend: str = "any") -> None:
        environment = dict(os.environ)
        # The stand-in must leave a core to the sampler.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--backend", backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        try:
            self.facts = self._answer()
        except RuntimeError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold(self, kind: str, seconds: float) -> dict[str, Any]:
        """`compute`, `memory` or `idle` for a while; start_ns, end_ns, flop and bytes done."""
        return self._ask({"do": kind, "seconds": seconds})

    def square(
        self, kind: str, *, on_s: float, off_s: float, seconds: float, start_at_ns: int = 0
    ) -> dict[str, Any]:
        """Pulses; each one's true start and end in `pulses`."""
        order = {"kind": kind, "on_s": on_s, "off_s": off_s, "seconds": seconds}
        start = max(start_at_ns, time.perf_counter_ns() + 50_000_000)
        return self._ask({"do": "square", **order, "start_at_ns": start})

    def close(self) -> None:
        """End the process."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            msg = f"the load process ended with code {self._process.wait()}"
            raise RuntimeError(msg)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            msg = f"the load process failed: {answer['error']}"
            raise RuntimeError(msg)
        return answer


if __name__ == "__main__":
    main()
