"""Simulated nodes for the benchmark of a fleet: the daemon's own exposition, a thousand times."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.production.attribution import Owner
from harness.production.books import Tariff
from harness.production.exposition_text import text
from harness.production.meter import Reading
from harness.production.node import Node
from harness.production.readings import Device, EngineReading, Usage
from harness.production.rows import Live, rows

PLACE = "NODE-PLACE"
S = 1_000_000_000
TARIFF = Tariff(
    price_per_kwh=0.0861, pue=1.2, grams_per_kwh=400.0, device_price_per_hour=2.5
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """
    A node's exposition as lines and rates: a thousand are shown without a thousand accounts.

    Args:
        lines: each line up to its value; comments whole.
        values: shape (n,): at the beginning; None for comments.
        rates: shape (n,): by the second.
    """

    lines: tuple[bytes, ...]
    values: tuple[float | None, ...]
    rates: tuple[float, ...]

    def at(self, name: bytes, seconds: float) -> bytes:
        """The exposition of the node *name* after so many seconds."""
        parts = [
            line if value is None else b"%s%.17g\n" % (line, value + rate * seconds)
            for line, value, rate in zip(self.lines, self.values, self.rates, strict=True)
        ]
        return b"".join(parts).replace(PLACE.encode(), name)

    def rate_of(self, name: str) -> float:
        """Sum of the rates of one metric."""
        start = name.encode() + b"{"
        return sum(
            r for line, r in zip(self.lines, self.rates, strict=True) if line.startswith(start)
        )


def template(gpus: int, models: int) -> Template:
    """
    What the daemon's own code exposes of a node whose every GPU is shared by every model.

    The most series that so many GPUs and models can make: with one model on each
    GPU there are fewer.
    """
    node = Node(tariff=TARIFF)
    uuids = [f"GPU-{PLACE}-{index}" for index in range(gpus)]
    for uuid in uuids:
        about = {"device_name": "simulated", "driver_version": "0", "mig_mode": "0"}
        node.add_device(
            Device(
                uuid=uuid, boundary="gpu", power_kind="emulated", source="nvml", method="simulated",
                facts=about,
            )
        )  # fmt: skip
    owners = [
        Owner(model_name=f"model-{n}", engine="vllm", instance_id=f"127.0.0.1:{8000 + n}")
        for n in range(models)
    ]

    def advance(second: int, *, busy: bool) -> None:
        readings = {
            uuid: Reading(t_ns=second * S, energy_j=energy) for uuid, energy in joules.items()
        }
        engines = [
            EngineReading(
                owner=owner,
                devices=tuple(uuids),
                tokens=dict.fromkeys(("computed", "cached", "generated"), tokens * (1.0 + place)),
                running=4.0 if busy else 0.0,
                usage={one: Usage(sm_ratio=0.3 + 0.1 * place, memory_bytes=3e10) for one in uuids},
            )
            for place, owner in enumerate(owners)
        ]
        node.advance(second * S, readings, engines)

    joules, tokens = dict.fromkeys(uuids, 0.0), 0.0
    for second in range(40):
        busy = second > 20
        joules = {uuid: value + (500.0 if busy else 100.0) for uuid, value in joules.items()}
        tokens += 500.0 * busy
        advance(second, busy=busy)
    before = _lines(node, uuids, owners)
    joules = {uuid: value + 500.0 for uuid, value in joules.items()}
    tokens += 500.0
    advance(40, busy=True)
    after = _lines(node, uuids, owners)
    return Template(
        lines=tuple(line for line, _ in after),
        values=tuple(value for _, value in after),
        rates=tuple(
            (value or 0.0) - (old or 0.0)
            for (_, old), (_, value) in zip(before, after, strict=True)
        ),
    )


def _lines(node: Node, uuids: list[str], owners: list[Owner]) -> list[tuple[bytes, float | None]]:
    reasons = ("hw_slowdown", "hw_thermal", "power_cap", "sw_thermal", "sync_boost")
    senses: tuple[str, ...] = ("instant", "average")
    live = Live(
        watts={(uuid, "gpu", sense): 500.0 for uuid in uuids for sense in senses},
        facts={
            uuid: {"device_power_limit_watts": 700.0, "device_temperature_celsius": 60.0}
            for uuid in uuids
        },
        throttles={(uuid, reason): 0 for uuid in uuids for reason in reasons},
        provisioned_w=1300.0,
        scrape_s=dict.fromkeys(owners, 0.002),
        clocks=dict.fromkeys(owners, "iteration"),
        sources={"nvml": True},
        own={
            "joulemark_snapshots_total": 1.0,
            "joulemark_snapshots_missed_total": 0.0,
            "joulemark_snapshot_timestamp_seconds": time.time(),
            "joulemark_snapshot_skew_seconds": 0.002,
            "joulemark_snapshot_duration_seconds": 0.004,
            "joulemark_state_saves_failed_total": 0.0,
            "process_cpu_seconds_total": 1.0,
            "process_resident_memory_bytes": 5e7,
            "process_start_time_seconds": time.time(),
        },
        findings=("power_emulated",),
    )
    body = text(rows(node, Node(), live), openmetrics=False)
    found: list[tuple[bytes, float | None]] = []
    for line in body.splitlines(keepends=True):
        head, space, number = line.rpartition(b" ")
        found.append((line, None) if line.startswith(b"#") else (head + space, float(number)))
    return found


class Nodes:
    """Servers of all nodes' expositions, in one thread: the path says which node."""

    def __init__(self, made: Template) -> None:
        self._made = made
        self._began_s = time.monotonic()
        self._ready = threading.Event()
        self.port = 0

    def start(self) -> None:
        """Listen; returns once it does."""
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()
        self._ready.wait()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                name = head.split(b" ", 2)[1].strip(b"/")
                body = self._made.at(name, time.monotonic() - self._began_s)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
                await writer.drain()
