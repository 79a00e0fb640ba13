"""Unpacks the recordings of real cards that are committed under docs/measurements."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpacked(archive: Path, folder: Path) -> Path:
    """The work folder that *archive* holds, put into *folder*."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "gpu-work"
