"""Starts an engine, waits until it answers, keeps its log, and stops all of it."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from .engines._recording import shown
from .engines._several import plan_of
from .errors import EngineError, cause
from .guard import GRACE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from .contracts import LaunchSpec

_POLL_S: Final = 0.05
_LOG_LINES: Final = 12
_CONNECT_S: Final = 10.0


class RunningEngine:
    """
    An engine's process tree, from start to stop; a context manager.

    The engine runs below a guard process (`harness.guard`) that ends it when
    this process is gone, even by SIGKILL.

    Args:
        spec: what to start.
        log: file that gets the engine's output, both streams.
        tick: called about twenty times a second while waiting, for a progress
            display; it may raise to give up.
    """

    def __init__(
        self, spec: LaunchSpec, log: Path, *, tick: Callable[[], None] = lambda: None
    ) -> None:
        self._spec = spec
        self.log = log
        self._tick = tick
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start it and wait until it answers.

        Raises:
            EngineError: the port is taken, the program is missing, it ended, or it
                did not answer in time; the message holds the end of its log.
        """
        check_port(self._spec.host, self._spec.port)
        with self.log.open("ab") as sink:
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.guard", *self._spec.argv],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._spec.environment},
                start_new_session=True,
            )
        deadline = time.monotonic() + self._spec.ready_timeout_s
        while not _answers(self._spec.ready_url):
            self.check()
            self._tick()
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the engine did not answer {self._spec.ready_url} within "
                    f"{self._spec.ready_timeout_s:g} s" + self._tail(),
                    remedy=f"read {self.log}, or allow more time",
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """
        Make sure that it still runs.

        Raises:
            EngineError: it ended; the message holds its exit code and the end of its log.
        """
        code = self._guard.poll() if self._guard else None
        if code is not None:
            # Negative from the guard itself, above 128 from the engine through it.
            number = -code if code < 0 else code - 128
            how = f"was ended by signal {number}" if number > 0 else f"ended with code {code}"
            raise EngineError(
                f"the engine {how}" + self._tail(), remedy=f"read the whole log in {self.log}"
            )

    @property
    def pids(self) -> list[int]:
        """Process ids to account to the engine: the guard's, whose descendants all count."""
        return [self._guard.pid] if self._guard else []

    def stop(self) -> None:
        """End the whole tree: SIGTERM, then SIGKILL after the guard's grace; never raises."""
        if self._guard is None:
            return
        if self._guard.stdin:
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    def _tail(self) -> str:
        """The last lines of the log that say something, ready to follow a sentence."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_LOG_LINES:]
        telling = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        return f": {(telling or lines)[-1].strip()}" if lines else ""


def free_port(host: str) -> int:
    """A port that is free now, chosen by the system."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def check_port(host: str, port: int) -> None:
    """
    Make sure that nothing listens there, since its answers would be taken for the engine's.

    Raises:
        EngineError: the port is in use, or the address is not this machine's.
    """
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise EngineError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy="stop what listens there, or set engine.port (0 lets the system choose)",
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _answers(url: str) -> bool:
    """
    Whether *url* answers 200 and, if it has a fragment, with that text in its body.

    A server whose parts start at different times is up before it can serve; what
    stands after `#` is never sent, so there the engine says what to look for.
    """
    url, _, wanted = url.partition("#")
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - built from host and port
            return bool(response.status == http.client.OK) and wanted.encode() in response.read()
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def scrape(url: str, *, timeout_s: float = 5.0) -> str:
    """
    The body of a GET.

    Raises:
        EngineError: it did not answer 200.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - built from the endpoint's own URL
            body: bytes = response.read()
            return body.decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        raise EngineError(
            f"{url} answered {error.code}", remedy="switch the engine's metrics on"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"{url} did not answer ({cause(error)})", remedy="check that the engine is up"
        ) from error


def describe(spec: LaunchSpec) -> list[str]:
    """What would be started, as lines for a shell: files first, then one command a process."""
    plan = plan_of(spec.argv)
    lines = [f"mkdir -p {shlex.quote(folder)}" for folder in plan["folders"]]
    lines += [
        f"cat > {shlex.quote(path)} <<'END'\n{content}END"
        for path, content in plan["files"].items()
    ]
    for program in plan["programs"]:
        variables = {**spec.environment, **program["environment"]}
        words = [
            f"{key}={shlex.quote(shown([f'{key}={value}'])[0].partition('=')[2])}"
            for key, value in variables.items()
        ]
        lines.append(" ".join([*words, shlex.join(shown(program["argv"]))]))
    return lines


def check_listening(base_url: str) -> None:
    """
    Make sure that somebody answers at an address before any request is sent there.

    Raises:
        EngineError: nobody does; the message says how the connection failed.
    """
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise EngineError(
            f"cannot connect to {base_url}: {error.strerror or error}",
            remedy="start the server, or correct --url",
        ) from error
