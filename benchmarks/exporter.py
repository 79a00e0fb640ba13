"""What the exporter costs: a scrape's latency and size, its CPU and memory, on emulated GPUs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NOISE_LINES = 1000
"""A vLLM server shows about this many series that have nothing to do with tokens."""


class Engines:
    """Servers that answer with a vLLM exposition of realistic size, in a thread of their own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.ports: list[int] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        """Listen; returns once all do."""
        self._thread.start()
        self._ready.wait()

    async def _run(self) -> None:
        for number in range(self.count):
            server = await asyncio.start_server(self._handler(number), "127.0.0.1", 0)
            self.ports.append(server.sockets[0].getsockname()[1])
        self._ready.set()
        await asyncio.Event().wait()

    def _handler(
        self, number: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        noise = "".join(
            f'vllm:e2e_request_latency_seconds_bucket{{engine="0",le="{n}",model_name="m"}} {n}\n'
            for n in range(_NOISE_LINES)
        )

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    made = time.time() * 100 % 1e9 // 1
                    labels = f'engine="0",model_name="model-{number}"'
                    body = (
                        f"vllm:prompt_tokens_total{{{labels}}} {made * 3}\n"
                        f"vllm:prompt_tokens_cached_total{{{labels}}} {made}\n"
                        f"vllm:generation_tokens_total{{{labels}}} {made}\n"
                        f"vllm:num_requests_running{{{labels}}} 4\n{noise}"
                    ).encode()
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    writer.write(head.encode() + body)
                    await writer.drain()

        return serve


def get(url: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
    return body


def number(text: str, name: str) -> float:
    """The value of a metric without labels."""
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


def uuids(text: str) -> list[str]:
    """The devices that an exporter without engines shows."""
    lines = [line for line in text.splitlines() if line.startswith("joulemark_device_info{")]
    return [line.partition('uuid="')[2].partition('"')[0] for line in lines]


@contextlib.contextmanager
def exporter(folder: Path, gpus: int, engines: str) -> Iterator[str]:
    """An exporter on emulated GPUs; gives its URL."""
    (folder / "e.toml").write_text(
        f'[exporter]\nlisten = "127.0.0.1:0"\nstate_file = "{folder}/state"\n'
        f'[power]\nsources = ["nvml"]\n[cost]\nprice_per_kwh = 0.1\n{engines}'
    )
    program = [sys.executable, "-m", "harness"]
    emulate = [*program, "emulate", "--gpus", str(gpus), "--"]
    process = subprocess.Popen(
        [*emulate, *program, "export", "--config", str(folder / "e.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        url = next(line.split()[0] for line in process.stdout if line.startswith("http"))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                get(url.replace("/metrics", "/-/ready"))
                break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--engines", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    servers = Engines(options.engines)
    servers.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with exporter(folder, options.gpus, "") as url:
            time.sleep(1.5)
            devices = uuids(get(url).decode())
        (folder / "state").unlink()
        tables = "".join(
            f'[[engine]]\nurl = "http://127.0.0.1:{port}/metrics"\nkind = "vllm"\n'
            f'devices = ["{devices[index % len(devices)]}"]\n'
            for index, port in enumerate(servers.ports)
        )
        with exporter(folder, options.gpus, tables) as url:
            time.sleep(5)
            before, t_s = get(url).decode(), time.monotonic()
            time.sleep(options.seconds)
            after = get(url).decode()
            seconds = time.monotonic() - t_s
            took = []
            for _ in range(300):
                began = time.perf_counter()
                body = get(url)
                took.append((time.perf_counter() - began) * 1e3)
                time.sleep(0.03)
    cpu_s = number(after, "process_cpu_seconds_total") - number(before, "process_cpu_seconds_total")
    series = sum(not line.startswith("#") for line in body.decode().splitlines())
    errors = [
        float(line.split()[-1])
        for line in after.splitlines()
        if line.startswith("joulemark_conservation_error_ratio")
    ]
    missed = number(after, "joulemark_snapshots_missed_total")
    memory_mb = number(after, "process_resident_memory_bytes") / 1e6
    skew_s = number(after, "joulemark_snapshot_skew_seconds")
    print(f"{options.gpus} emulated GPUs, {options.engines} engines, {seconds:.0f} s")
    print(f"scrape p50 {statistics.median(took):.2f} ms, p99 {sorted(took)[296]:.2f} ms")
    print(f"payload {len(body)} bytes, {series} series")
    print(f"CPU {cpu_s / seconds:.2%} of a core, memory {memory_mb:.1f} MB")
    print(f"snapshots missed {missed:.0f}, skew {skew_s * 1e3:.1f} ms, error {max(errors):.1e}")


if __name__ == "__main__":
    main()
