"""A real daemon under attack: it goes on sampling, and shows nobody a byte without a password."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).resolve().parent.parent
AUTHORIZATION = "Basic " + base64.b64encode(b"prom:right").decode()
SNAPSHOT_S = 0.1
LIMIT_S = 60


@pytest.fixture
def daemon(tmp_path) -> Iterator[tuple[str, Path]]:
    """`joulemark export` with a password; gives its URL and its state file."""
    bcrypt = pytest.importorskip("bcrypt", reason="joulemark[production] is not installed")
    digest = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prom: '{digest}'}}\n")
    (tmp_path / "e.toml").write_text(
        f'[exporter]\nlisten = "127.0.0.1:0"\nweb_config_file = "{tmp_path}/web.yml"\n'
        f'state_file = "{tmp_path}/state"\nsnapshot_s = {SNAPSHOT_S}\nstate_s = {SNAPSHOT_S}\n'
        'max_connections = 32\n[power]\nsources = ["scripted"]\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "export", "--config", tmp_path / "e.toml"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = next(line.split()[0] for line in process.stdout if line.startswith("http"))
        yield url, tmp_path / "state"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def covered_s(state: Path) -> float:
    """How much time the daemon has metered so far, as it saved it last."""
    with contextlib.suppress(OSError, IndexError):
        device = orjson.loads(state.read_bytes().splitlines()[1])["devices"][0]
        return float(device["covered_ns"]) / 1e9
    return 0.0


async def metered(state: Path, seconds: float) -> None:
    """Wait until so much time has been metered."""
    while covered_s(state) < seconds:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.05)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def idle(port: int, seen: list[bytes], over: asyncio.Event) -> None:
    """Connect, say nothing, and take what comes."""
    with contextlib.suppress(OSError):
        reader, writer = await connect(port)
        waiting = asyncio.create_task(over.wait())
        reading = asyncio.create_task(reader.read())
        await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(OSError):
            seen.append(reading.result() if reading.done() else b"")
        waiting.cancel()
        reading.cancel()
        writer.transport.abort()


async def drip(port: int, seen: list[bytes], over: asyncio.Event) -> None:
    """Slow loris: a header that never ends, a byte at a time; again when it is cut off."""
    while not over.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await connect(port)
            writer.write(b"GET /metrics HTTP/1.1\r\nX: ")
            while not over.is_set() and not reader.at_eof():
                writer.write(b"a")
                await asyncio.sleep(0.05)
            seen.append(await asyncio.wait_for(reader.read(), 1) if reader.at_eof() else b"")
            writer.transport.abort()
        await asyncio.sleep(0.05)


async def huge_header(port: int, seen: list[bytes]) -> int:
    """Ten megabytes of header; returns how much of it was taken."""
    sent = 0
    with contextlib.suppress(OSError, TimeoutError):
        reader, writer = await connect(port)
        writer.write(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(160):
            writer.write(b"a" * 65536)
            async with asyncio.timeout(1):
                await writer.drain()
            sent += 65536
        seen.append(await reader.read())
        writer.transport.abort()
    return sent


def test_under_attack_the_daemon_goes_on_sampling_and_tells_nobody_anything(daemon):
    url, state = daemon
    port = int(re.search(r":(\d+)/", url)[1])
    seen: list[bytes] = []

    async def attack() -> tuple[float, int]:
        over = asyncio.Event()
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            await metered(state, 1)
            before_s = covered_s(state)
            for _ in range(1000):
                group.create_task(idle(port, seen, over))
            for _ in range(40):
                group.create_task(drip(port, seen, over))
            sent = await huge_header(port, seen)
            # Thirty snapshots later it has metered three seconds more: it never stopped.
            await metered(state, before_s + 30 * SNAPSHOT_S)
            over.set()
        return covered_s(state) - before_s, sent

    gained_s, sent = asyncio.run(attack())
    assert gained_s >= 30 * SNAPSHOT_S
    assert sent < 10_000_000
    assert len(seen) > 900
    assert not any(b"joulemark_" in answer for answer in seen)
    text = metrics(url)
    assert 'reason="gap"' not in text
    errors = re.findall(r"^joulemark_conservation_error_ratio\S* (\S+)$", text, re.MULTILINE)
    assert errors
    assert all(float(error) < 1e-9 for error in errors)


def metrics(url: str) -> str:
    """What who has the password sees, once there is room for a connection again."""
    request = urllib.request.Request(url, headers={"Authorization": AUTHORIZATION})  # noqa: S310
    for _ in range(100):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(request, timeout=10) as answer,  # noqa: S310 - loopback
        ):
            text: str = answer.read().decode()
            return text
    pytest.fail("no answer after the attack")
