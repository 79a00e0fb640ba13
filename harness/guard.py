"""A small parent of the engine that stops all of it when the harness is gone, however it went."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
GRACE_S: Final = 3.0
"""How long the engine may take to end after SIGTERM before it is killed."""


def main() -> int:
    """
    Run `argv[1:]`; end it and all its descendants when standard input closes.

    Standard input is a pipe that only the harness writes to, so it closes when
    the harness exits or is killed, which no signal handler could promise. As a
    subreaper this process also inherits grandchildren whose parents ended.

    Returns:
        The engine's exit code, 128 + N if signal N ended it.
    """
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop_read, stop_write = os.pipe()
    os.set_blocking(stop_write, False)
    signal.set_wakeup_fd(stop_write)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    engine = subprocess.Popen(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # One thread here, so running Python between fork and exec is safe.
        preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509
    )
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(stop_read, selectors.EVENT_READ)
    while engine.poll() is None:
        ready = [key.fd for key, _ in selector.select()]
        if 0 in ready and not os.read(0, 1024):
            break
        if stop_read in ready and signal.SIGTERM in os.read(stop_read, 1024):
            break
    _end_all(engine)
    code = engine.wait()
    return code if code >= 0 else 128 - code


def _end_all(engine: subprocess.Popen[bytes]) -> None:
    """SIGTERM to every descendant, SIGKILL to those that are left after the grace."""
    _signal_all(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and _descendants():
        _reap(engine)
        time.sleep(0.02)
    while _descendants():
        _signal_all(signal.SIGKILL)
        _reap(engine)
        time.sleep(0.02)


def _reap(engine: subprocess.Popen[bytes]) -> None:
    engine.poll()
    for pid in _descendants():
        if pid != engine.pid:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _signal_all(number: int) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _descendants() -> list[int]:
    """Process ids below this one, from `/proc`; a process group would miss new sessions."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            # The command's name may hold spaces and brackets; fields count from the last one.
            state, parent = text.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found: list[int] = []
    wanted = {os.getpid()}
    while wanted:
        below = [pid for pid, parent in parents.items() if parent in wanted]
        found += below
        wanted = set(below)
    return found


if __name__ == "__main__":
    sys.exit(main())
