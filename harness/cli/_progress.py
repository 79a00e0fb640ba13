"""Shows how a run goes: a bar on a terminal, a line every few seconds elsewhere; on stderr."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Self

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.load import LoadProgress

_REDRAW_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0
_BAR_CELLS: Final = 24


class Progress:
    """
    A display in a thread of its own, so that the load loop never waits for the terminal.

    It wakes twice a second and formats one short line, which costs the load
    loop far less than a millisecond of the interpreter's time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._terminal = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._display, daemon=True, name="progress")
        self._name = ""
        self._began_s = time.monotonic()
        self._seconds: float | None = None
        self._requests: int | None = None
        self._load: LoadProgress | None = None
        self._watts: Callable[[], Mapping[str, float]] = dict
        self._kinds: Mapping[str, str] = {}
        self._last: tuple[float, int] = (0.0, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def phase(self, name: str, *, seconds: float | None, requests: int | None) -> None:
        """A phase begins; it is announced at once."""
        with self._lock:
            self._name, self._seconds, self._requests = name, seconds, requests
            self._began_s = time.monotonic()
            self._load = None
            self._last = (self._began_s, 0)
        if not self._terminal:
            click.echo(f"joulemark: {name}{self._extent()}", err=True)

    def tick(self) -> None:
        """Nothing to do: the thread redraws by itself."""

    def follow(
        self,
        progress: LoadProgress,
        watts: Callable[[], Mapping[str, float]],
        kinds: Mapping[str, str],
    ) -> None:
        """Read these until the next phase."""
        with self._lock:
            self._load, self._watts, self._kinds = progress, watts, kinds

    def _extent(self) -> str:
        if self._requests is not None:
            return f", {self._requests} requests"
        return f", {self._seconds:g} s" if self._seconds else ""

    def _display(self) -> None:
        every_s = _REDRAW_S if self._terminal else _LINE_EVERY_S
        while not self._done.wait(every_s):
            with self._lock:
                line = self._line()
            if self._terminal:
                # A line that wraps could not be redrawn.
                fitting = line[: shutil.get_terminal_size().columns - 1]
                click.echo(f"\r\x1b[K{fitting}", nl=False, err=True)
            else:
                click.echo(f"joulemark: {line}", err=True)

    def _line(self) -> str:
        now_s = time.monotonic()
        elapsed_s = now_s - self._began_s
        words = [f"{self._name:<12}", f"{elapsed_s:5.0f} s"]
        share = self._share(elapsed_s)
        if self._terminal and share is not None:
            filled = round(share * _BAR_CELLS)
            words.insert(1, "█" * filled + "░" * (_BAR_CELLS - filled))
        if self._load is not None:
            tokens = self._load.output_tokens
            then_s, before = self._last
            rate = (tokens - before) / (now_s - then_s) if now_s > then_s else 0.0
            self._last = (now_s, tokens)
            words.append(f"{self._load.finished} requests done, {self._load.in_flight} in flight")
            if self._load.failed:
                words.append(f"{self._load.failed} failed")
            words.append(f"{rate:.0f} tok/s")
            words += self._power()
        return "  ".join(words)

    def _power(self) -> list[str]:
        return [
            f"{watts:.0f} W {boundary.replace('_', ' ')}"
            + ("" if self._kinds[boundary] == "measured" else f" ({self._kinds[boundary].upper()})")
            for boundary, watts in self._watts().items()
        ]

    def _share(self, elapsed_s: float) -> float | None:
        if self._requests and self._load is not None:
            return min(1.0, self._load.finished / self._requests)
        return min(1.0, elapsed_s / self._seconds) if self._seconds else None
