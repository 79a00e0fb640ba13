"""Shows how a run goes: a few live lines on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Self

import click

from harness.cli._live_text import joules_text, span, sparkline, watts_text
from harness.live import Rate, Track
from harness.plural import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.load.progress import LoadProgress

_LOOK_EVERY_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0
_BAR_CELLS: Final = 24
_CLEAR: Final = "\r\x1b[J"


class Progress:
    """
    A display on stderr in a thread of its own, so that the load loop never waits for it.

    It wakes twice a second, adds a number or two to what it knows, and formats a
    few short lines, which costs the load loop far less than a millisecond of the
    interpreter's time. A phase that is over is left standing as one line.
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
        self._rate = Rate()
        self._tracks: dict[str, Track] = {}
        self._drawn = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._terminal:
            self._leave()

    def phase(self, name: str, *, seconds: float | None, requests: int | None) -> None:
        """A phase begins; it is announced at once."""
        with self._lock:
            if self._terminal:
                self._leave()
            self._name, self._seconds, self._requests = name, seconds, requests
            self._began_s = time.monotonic()
            self._load = None
            self._rate, self._tracks = Rate(), {}
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
            return f", {counted(self._requests, 'request')}"
        return f", {self._seconds:g} s" if self._seconds else ""

    def _display(self) -> None:
        line_due_s = time.monotonic() + _LINE_EVERY_S
        while not self._done.wait(_LOOK_EVERY_S):
            with self._lock:
                now_s = time.monotonic()
                self._look(now_s)
                if self._terminal:
                    self._draw(self._lines(now_s))
                elif now_s >= line_due_s:
                    line_due_s = now_s + _LINE_EVERY_S
                    click.echo(f"joulemark: {'  '.join(self._lines(now_s))}", err=True)

    def _look(self, now_s: float) -> None:
        if self._load is None:
            return
        tokens = self._load.output_tokens
        self._rate.add(now_s, tokens)
        watts = self._watts()
        for boundary in self._kinds:
            track = self._tracks.setdefault(boundary, Track())
            track.add_watts(now_s, watts.get(boundary), tokens)

    def _lines(self, now_s: float) -> list[str]:
        elapsed_s = now_s - self._began_s
        share = self._share(elapsed_s)
        words = [f"{self._name:<12}", f"{elapsed_s:5.0f} s"]
        if share is not None:
            if self._terminal:
                filled = round(share * _BAR_CELLS)
                words.insert(1, "█" * filled + "░" * (_BAR_CELLS - filled))
            # Before a twentieth is done, what is left is anybody's guess.
            if share >= 1:
                words.append("waiting for what is in flight")
            elif share > 0.05:  # noqa: PLR2004
                words.append(f"about {span(elapsed_s / share - elapsed_s)} left")
        lines = ["  ".join(words)]
        if self._load is None:
            return lines
        words = [
            f"{counted(self._load.finished, 'request')} done, {self._load.in_flight} in flight"
        ]
        if self._load.failed:
            words.append(f"{self._load.failed} failed")
        if self._rate.per_s is not None:
            words.append(f"{self._rate.per_s:.0f} tok/s")
        lines.append("  ".join(words))
        lines += [self._power(boundary, track) for boundary, track in self._tracks.items()]
        return lines

    def _power(self, boundary: str, track: Track) -> str:
        now_w = track.watts[-1] if track.watts else None
        words = [watts_text(boundary.replace("_", " "), now_w, self._kinds[boundary])]
        if self._terminal and track.watts:
            words.append(sparkline(track.watts))
        words.append(joules_text(track))
        return "  ".join(word for word in words if word)

    def _share(self, elapsed_s: float) -> float | None:
        """How much of the phase is done, by whichever of time and requests ends it first."""
        shares = []
        if self._requests and self._load is not None:
            shares.append(self._load.finished / self._requests)
        if self._seconds:
            shares.append(elapsed_s / self._seconds)
        return min(1.0, max(shares)) if shares else None

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        # A line that wraps could not be redrawn.
        width = shutil.get_terminal_size().columns - 1
        text = "\n".join(line[:width] for line in lines)
        click.echo(f"{up}{_CLEAR}{text}", nl=False, err=True)
        self._drawn = len(lines)

    def _leave(self) -> None:
        """Leave one line of the phase that is over, where its live lines were."""
        if self._name:
            self._draw([f"{self._name:<12}  took {span(time.monotonic() - self._began_s)}"])
            click.echo("", err=True)
        self._drawn = 0
