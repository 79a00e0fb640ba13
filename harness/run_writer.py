"""Writes a run folder as the run goes: raw events, with the kernel at once, that survive a kill."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any, Final, Self

import orjson

from .errors import StoreError
from .files import write_atomically
from .journal import JournalWriter
from .record import Finding
from .store import EVENTS, MANIFEST, MARKS, REQUESTS
from .timeline import EVENT_DTYPE, RequestTrace

_LOG: Final = logging.getLogger(__name__)


class RunWriter:
    """
    Writes a run folder as the run goes; a context manager.

    Args:
        folder: made here; must not exist.
        manifest: written first, so that a folder without one is not a run.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the run folder {folder}: {error.strerror}",
                remedy="set --artifact-dir to a folder that can be written",
            ) from error
        self.folder = folder
        write_atomically(folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        self._marks = _append_only(folder / MARKS)
        self._requests = _append_only(folder / REQUESTS)
        self.events = JournalWriter(folder / EVENTS, EVENT_DTYPE, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def mark(self, mark: str, t_ns: int | None = None, **facts: Any) -> None:  # noqa: ANN401 - any JSON
        """Append one line to the marks, of now or of *t_ns*; it is with the kernel on return."""
        t_ns = time.perf_counter_ns() if t_ns is None else t_ns
        _append_line(self._marks, {"t_ns": t_ns, "mark": mark, **facts})
        _LOG.info("%s %s", mark, facts or "")

    def find(self, finding: Finding) -> None:
        """Append what a reader of the run's numbers has to know, as it is found."""
        self.mark("finding", finding=dataclasses.asdict(finding))

    def add_request(self, trace: RequestTrace) -> None:
        """Append one finished request."""
        _append_line(self._requests, dataclasses.asdict(trace))

    def close(self) -> None:
        """Close the files; closing twice is allowed."""
        self.events.close()
        for name in ("_marks", "_requests"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.fsync(descriptor)
                os.close(descriptor)
                setattr(self, name, -1)


def new_run_id(name: str) -> str:
    """A name for a run folder: what, when (UTC), and four random digits."""
    when = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{name}-{when}-{secrets.token_hex(2)}"


def _append_only(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _append_line(descriptor: int, row: dict[str, Any]) -> None:
    # One write a line: a killed process leaves at most one torn line, the last.
    os.write(descriptor, orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
