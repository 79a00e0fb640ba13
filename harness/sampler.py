"""Starts, steers and audits the process that samples power."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from .errors import ConfigError, PowerUnavailableError, StoreError
from .journal import read_journal
from .sampler_audit import SamplerAudit, audit
from .timeline import POWER_DTYPE, Channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_STALE_NS: Final = 3_000_000_000
_STOP_TIMEOUT_S: Final = 10.0


class Sampler:
    """
    The parent's side of the sampler.

    The reading is done by another process, so that it neither waits for the load
    loop's interpreter lock nor makes the load loop wait. That process ends when
    this one does, however this one ends.

    Args:
        journal: the file to write; must not exist.
        sources: kind of a file in harness/power, and the options of its dataclass.
        power_hz: rate of power readings; lowered if reading takes too long.
        counter_hz: rate of energy-counter readings; likewise.
        aim: read counters whose reads are slow at their expected ticks; else at dithered times.
    """

    def __init__(
        self,
        journal: Path,
        sources: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        power_hz: float = 50.0,
        counter_hz: float = 20.0,
        aim: bool = True,
    ) -> None:
        self._journal = journal
        self._order = {
            "journal": os.fspath(journal),
            "sources": [[kind, dict(options)] for kind, options in sources],
            "power_hz": power_hz,
            "counter_hz": counter_hz,
            "aim": aim,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = bytearray()
        self._latest: tuple[int, dict[str, float]] = (0, {})
        self._facts: dict[str, Any] = {}
        self._rates: dict[str, float] = {}

    def start(self, *, timeout_s: float = 30.0) -> tuple[Channel, ...]:
        """
        Start the process and wait until the sources are open and read.

        Args:
            timeout_s: how long the drivers may take to open.

        Returns:
            The channels, in the order of the journal's channel numbers.

        Raises:
            PowerUnavailableError: a source cannot be opened; no file is left behind.
            ConfigError: there is no such source, or it has no such option.
            StoreError: the journal exists already.
        """
        if self._journal.exists():
            raise StoreError(f"{self._journal} exists already", remedy="choose another folder")
        # -P and PYTHONPATH: a folder named `harness` where the user happens to be
        # must not be taken for this package.
        package_root = Path(__file__).resolve().parent.parent
        paths = [str(package_root), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.sampler_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._send(self._order)
        answer = self._receive(until={"header", "error"}, timeout_s=timeout_s)
        if answer is None or "error" in answer:
            if answer is None:
                self._process.kill()
            fault = self._end(self._process)
            self._journal.unlink(missing_ok=True)
            if answer is None:
                raise PowerUnavailableError(
                    f"the sampler did not start within {timeout_s:g} s ({fault})",
                    remedy="see whether `nvidia-smi` answers; a driver that hangs needs a reboot",
                )
            error = ConfigError if answer["config"] else PowerUnavailableError
            raise error(answer["error"], remedy=answer["remedy"])
        self._facts, self._rates = answer["facts"], answer["rates_hz"]
        return tuple(Channel(**channel) for channel in answer["header"]["channels"])

    def watch(self, pids: Sequence[int]) -> None:
        """Tell the sources which processes the engine's are."""
        self._send({"watch": list(pids)})

    def mark(self) -> int:
        """
        Announce an edge of a window: now.

        Returns:
            The edge, CLOCK_MONOTONIC nanoseconds; the counters are read in a
            burst from now until each has ticked.
        """
        t_ns = time.perf_counter_ns()
        self._send({"mark": t_ns})
        return t_ns

    def latest_w(self) -> dict[str, float]:
        """Boundary → watts just now, summed over devices; empty if not known. Never blocks."""
        self._receive(until=set(), timeout_s=0.0)
        t_ns, watts = self._latest
        return dict(watts) if time.perf_counter_ns() - t_ns < _STALE_NS else {}

    def facts(self) -> dict[str, Any]:
        """Source name → its facts as of the start."""
        return self._facts

    def stop(self) -> SamplerAudit:
        """
        End the sampling; the journal is complete when this returns.

        Returns:
            The audit, also of a sampler that had died: what it wrote counts.

        Raises:
            StoreError: the journal has gone.
        """
        process = self._process
        if process is None:
            msg = "stop() before start()"
            raise RuntimeError(msg)
        self._send({"stop": True})
        last = self._receive(until={"facts_at_stop"}, timeout_s=_STOP_TIMEOUT_S)
        fault = self._end(process)
        header, records, _ = read_journal(self._journal, POWER_DTYPE)
        return audit(
            [Channel(**channel) for channel in header["channels"]],
            records,
            rates_hz=self._rates,
            last=last,
            fault=None if last else fault,
        )

    def _send(self, message: Mapping[str, Any]) -> None:
        pipe = self._process.stdin if self._process else None
        if pipe is None or pipe.closed:
            return
        try:
            pipe.write(orjson.dumps(message) + b"\n")
            pipe.flush()
        except BrokenPipeError:
            # It has died; stop() says so, with its last words.
            return

    def _receive(self, *, until: set[str], timeout_s: float) -> dict[str, Any] | None:
        """Take what has come in; the first message that has a key of *until*, or None."""
        pipe: IO[bytes] | None = self._process.stdout if self._process else None
        deadline_ns = time.perf_counter_ns() + round(timeout_s * 1e9)
        while pipe is not None:
            wait_s = max((deadline_ns - time.perf_counter_ns()) / 1e9, 0.0)
            if not select.select([pipe], [], [], wait_s)[0]:
                return None
            data = os.read(pipe.fileno(), 65536)
            if not data:
                return None
            self._pending += data
            *lines, rest = self._pending.split(b"\n")
            self._pending = bytearray(rest)
            for line in lines:
                message: dict[str, Any] = orjson.loads(line)
                if "latest" in message:
                    self._latest = (message["latest"]["t_ns"], message["latest"]["watts"])
                elif until & message.keys():
                    return message
        return None

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the process, by force in the end; its exit code and last words."""
        try:
            _, words = process.communicate(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, words = process.communicate()
        lines = words.decode(errors="replace").strip().splitlines()
        return f"exit code {process.returncode}" + (f": {lines[-1]}" if lines else "")
