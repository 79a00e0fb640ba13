"""Reads on in files that another process appends to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from harness.journal import MAGIC


class _Tail:
    """What was appended to a file since it was last read; nothing while it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def fresh(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return b""
        self._offset += len(data)
        self._rest, data = b"", self._rest + data
        return data

    def give_back(self, data: bytes) -> None:
        """Of a row that was not whole yet; it comes again with what follows."""
        self._rest = data


class LineTail(_Tail):
    """Whole JSON lines as they are appended."""

    def read(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        whole, newline, rest = self.fresh().rpartition(b"\n")
        self.give_back(rest)
        return [orjson.loads(line) for line in whole.split(b"\n")] if newline else []


class JournalTail(_Tail):
    """
    Whole records of a journal as they are appended.

    Args:
        path: of the journal.
        dtype: its records' layout.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        super().__init__(path)
        self._dtype = dtype
        self.header: dict[str, Any] | None = None

    def read(self) -> npt.NDArray[Any]:
        """Those since the last call; empty until the header is there."""
        data = self.fresh()
        if self.header is None:
            end = 8 + int.from_bytes(data[4:8], "little")
            if data[:4] != MAGIC or len(data) < end:
                self.give_back(data)
                return np.zeros(0, dtype=self._dtype)
            self.header, data = orjson.loads(data[8:end]), data[end:]
        count = len(data) // self._dtype.itemsize
        self.give_back(data[count * self._dtype.itemsize :])
        return np.frombuffer(data, dtype=self._dtype, count=count)
