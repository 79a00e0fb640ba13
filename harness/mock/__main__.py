"""`python -m harness.mock SETTINGS LOG`: the mock server as a process, until its parent ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from harness.errors import JoulemarkError

from .server import MockServer
from .settings import MockSettings

_PARENT_POLL_S = 1.0


async def serve(settings: MockSettings, log: Path | None) -> None:
    """Run until SIGTERM, or until the parent is gone; the first line on stdout is the port."""
    server = MockServer(settings, log=log)
    port = await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_POLL_S):
                await stop.wait()
    await server.stop()


def main(arguments: list[str]) -> None:
    """Settings as JSON, then optionally the path of the write log."""
    raw = json.loads(arguments[0]) if arguments else {}
    raw["faults"] = tuple(raw.get("faults", ()))
    log = Path(arguments[1]) if arguments[1:] else None
    try:
        uvloop.run(serve(MockSettings(**raw), log))
    except (JoulemarkError, OSError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main(sys.argv[1:])
