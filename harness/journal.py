"""An append-only file of fixed-size records that is readable after a crash at any moment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from .errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC: Final = b"JMJ1"
_FLUSH_BYTES: Final = 64 * 1024


class JournalWriter:
    """
    Appends records; what `flush` has returned from survives a kill of this process.

    The file is MAGIC, the header's length (4 bytes, little endian), the header
    (JSON), then records. Records are handed to the kernel whole and in order, so
    a killed writer leaves at most one torn record, at the end, which the reader drops.
    A power cut may lose what the kernel had not yet written; `close` syncs.

    Args:
        path: must not exist yet.
        dtype: the records' layout.
        header: facts about the records, JSON.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], header: dict[str, Any]) -> None:
        self._buffer = bytearray()
        self._record_bytes = dtype.itemsize
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)
        text = orjson.dumps(header)
        self._write(MAGIC + len(text).to_bytes(4, "little") + text)

    def append(self, records: bytes) -> None:
        """Add packed records, whole ones (`struct.Struct.pack` in the dtype's layout)."""
        self._buffer += records
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything appended so far to the kernel."""
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            self._write(data)

    def close(self) -> None:
        """Flush, sync to the disk and close; closing twice is allowed."""
        if self._fd >= 0:
            self.flush()
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def read_journal(path: Path, dtype: np.dtype[Any]) -> tuple[dict[str, Any], npt.NDArray[Any], int]:
    """
    Read a journal, also one whose writer was killed.

    Args:
        path: the file.
        dtype: the records' layout.

    Returns:
        The header, the whole records as a structured array, and how many bytes
        of a torn record were dropped at the end.

    Raises:
        StoreError: the file is missing, or its beginning is not a journal's.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror}", remedy="name a folder that holds a run"
        ) from error
    header_end = 8 + int.from_bytes(data[4:8], "little")
    if data[:4] != MAGIC or len(data) < header_end:
        raise StoreError(
            f"{path} does not begin as a journal does",
            remedy="restore it from a copy; nothing can be read from it",
        )
    try:
        header = orjson.loads(data[8:header_end])
    except orjson.JSONDecodeError as error:
        raise StoreError(
            f"the header of {path} is damaged ({error})",
            remedy="restore it from a copy; nothing can be read from it",
        ) from error
    count, torn_bytes = divmod(len(data) - header_end, dtype.itemsize)
    records = np.frombuffer(data, dtype=dtype, count=count, offset=header_end)
    return header, records, torn_bytes
