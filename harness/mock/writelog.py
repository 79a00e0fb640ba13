"""When the mock server wrote each token, so that a client's stamps can be held against it."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from harness.journal import JournalWriter, read_journal

if TYPE_CHECKING:
    from pathlib import Path


class WriteKind(IntEnum):
    """What a row of the log stands for."""

    RECEIVED = 1
    """The last byte of a request reached the server."""
    TOKENS = 2
    """Stamped just before the tokens were handed to the kernel."""
    END = 3
    """The answer is over; its fault, if any, has happened."""


WRITE_DTYPE: Final = np.dtype(
    [
        ("t_ns", "<i8"),  # CLOCK_MONOTONIC
        ("number", "<i4"),  # the server's own count of requests
        ("index", "<i4"),  # number at the end of X-Request-Id; -1: none
        ("tokens", "<i4"),  # output tokens of the answer so far
        ("kind", "<u1"),  # WriteKind
        ("pad", "V3"),
    ]
)
_pack: Final = struct.Struct("<qiiiB3x").pack


class WriteLog:
    """
    The log; without a path nothing is kept.

    Args:
        path: must not exist yet.
    """

    def __init__(self, path: Path | None) -> None:
        self._journal = None if path is None else JournalWriter(path, WRITE_DTYPE, {})

    def add(self, t_ns: int, number: int, index: int, tokens: int, kind: int) -> None:
        """One row."""
        if self._journal is not None:
            self._journal.append(_pack(t_ns, number, index, tokens, kind))

    def flush(self) -> None:
        """Hand everything to the kernel."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """No more rows."""
        if self._journal is not None:
            self._journal.close()


def read_write_log(path: Path) -> npt.NDArray[Any]:
    """The rows of a log, in order of time."""
    return read_journal(path, WRITE_DTYPE)[1]
