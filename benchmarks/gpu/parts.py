"""
Splits files into numbered parts that a size limit lets through, and joins and verifies them again.

    python3 benchmarks/gpu/parts.py split FOLDER DEST [--limit-mib 60]
    python3 benchmarks/gpu/parts.py join DEST FOLDER
    python3 benchmarks/gpu/parts.py list DEST

Standard library only: it is run on the other side before anything is installed there. FOLDER's
files go into one tar, the tar into DEST/part-001, part-002, ... and DEST/parts.json, which holds
name, size and SHA-256 of every file and every part. `join` reads parts from DEST, checks each, and
leaves nothing behind unless all of them are there and right.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

LIST = "parts.json"
CALL_BYTES = 64 << 20
"""What one call may carry, the working tree included."""
_BLOCK = 1 << 20


class PartsError(Exception):
    """A part is missing or damaged; the message says which."""


class _Splitter(io.RawIOBase):
    """A writable stream that cuts what goes through it into files of at most *limit* bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__()
        self.parts: list[dict[str, object]] = []
        self._folder, self._limit = folder, limit
        self._file: BinaryIO | None = None
        self._hash, self._size = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            if self._file is None:
                name = f"part-{len(self.parts) + 1:03d}"
                self._file = (self._folder / name).open("wb")
                self._hash, self._size = hashlib.sha256(), 0
            piece = view[: self._limit - self._size]
            self._file.write(piece)
            self._hash.update(piece)
            self._size += len(piece)
            view = view[len(piece) :]
            if self._size == self._limit:
                self._end()
        return len(data)

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            name = Path(self._file.name).name
            digest = self._hash.hexdigest()
            self.parts.append({"name": name, "bytes": self._size, "sha256": digest})
            self._file = None

    def close(self) -> None:
        self._end()
        super().close()


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def split(source: Path, dest: Path, *, limit_bytes: int) -> dict[str, object]:
    """
    Put all files of *source* into parts of at most *limit_bytes*.

    Returns:
        What was written to `parts.json`.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for old in dest.glob("part-*"):
        old.unlink()
    files = [path for path in sorted(source.iterdir()) if path.is_file()]
    splitter = _Splitter(dest, limit_bytes)
    # A stream ("w|"): parts are written as they come, no second copy of everything.
    with tarfile.open(fileobj=splitter, mode="w|") as tar:  # type: ignore[call-overload]
        for path in files:
            tar.add(path, arcname=path.name)
    splitter.close()
    document: dict[str, object] = {
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        ],
        "parts": splitter.parts,
    }
    (dest / LIST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


class _Joiner(io.RawIOBase):
    """A readable stream over the parts, which checks each as it ends."""

    def __init__(self, folder: Path, parts: list[dict[str, object]]) -> None:
        super().__init__()
        self._blocks = self._read(folder, parts)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._blocks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    @staticmethod
    def _read(folder: Path, parts: list[dict[str, object]]) -> Iterator[bytes]:
        for part in parts:
            digest = hashlib.sha256()
            with (folder / str(part["name"])).open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    yield block
            if digest.hexdigest() != part["sha256"]:
                msg = f"{part['name']} is damaged: its SHA-256 is {digest.hexdigest()[:12]}..., "
                raise PartsError(msg + f"{str(part['sha256'])[:12]}... was written; carry it again")


def missing(folder: Path) -> list[str]:
    """Names of parts that are not in *folder*, or not whole."""
    document = json.loads((folder / LIST).read_text(encoding="utf-8"))
    return [
        part["name"]
        for part in document["parts"]
        if not (path := folder / part["name"]).exists() or path.stat().st_size != part["bytes"]
    ]


def join(folder: Path, dest: Path) -> list[str]:
    """
    Unpack the files of all parts into *dest*.

    Returns:
        Their names.

    Raises:
        PartsError: a part or a file is missing or damaged; *dest* then has none of them.
    """
    if not (folder / LIST).exists():
        msg = f"{folder} has no {LIST}; carry it along with the parts"
        raise PartsError(msg)
    document = json.loads((folder / LIST).read_text(encoding="utf-8"))
    absent = missing(folder)
    if absent:
        msg = f"{len(absent)} of {len(document['parts'])} parts are not here: {', '.join(absent)}"
        raise PartsError(msg)
    dest.mkdir(parents=True, exist_ok=True)
    names = [str(file["name"]) for file in document["files"]]
    try:
        reader = io.BufferedReader(_Joiner(folder, document["parts"]), _BLOCK)
        with tarfile.open(fileobj=reader, mode="r|") as tar:
            tar.extractall(dest, filter="data")
        # Up to the tar's very end, so that the last part is checked, too.
        while reader.read(_BLOCK):
            pass
        for file in document["files"]:
            if sha256_of(dest / file["name"]) != file["sha256"]:
                msg = f"{file['name']} is not what was split"
                raise PartsError(msg)  # noqa: TRY301 - cleaned up like the others
    except (PartsError, tarfile.TarError, OSError) as error:
        for name in names:
            (dest / name).unlink(missing_ok=True)
        if isinstance(error, PartsError):
            raise
        raise PartsError(str(error)) from error
    return names


def of_a_call(carried: Sequence[Path], root: Path) -> str:
    """How much of what a call may carry these files and the working tree at *root* are."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listed, cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"how large the working tree is that travels with these is not known: {error}"
    tree = [root / name.decode() for name in done.stdout.split(b"\0") if name]
    total = sum(path.stat().st_size for path in [*carried, *tree] if path.is_file())
    words = "more than" if total > CALL_BYTES else "of"
    return (
        f"one part, the wheels and the working tree: {total:,} bytes, {words} the {CALL_BYTES:,} of"
        " a call"
    )


def table(folder: Path) -> str:
    """The parts and files with their sizes, as Markdown."""
    document = json.loads((folder / LIST).read_text(encoding="utf-8"))
    lines = ["| part | bytes | sha256 |", "|---|---|---|"]
    lines += [f"| {p['name']} | {p['bytes']:,} | {p['sha256'][:16]}… |" for p in document["parts"]]
    lines += ["", "| file | bytes |", "|---|---|"]
    lines += [f"| {f['name']} | {f['bytes']:,} |" for f in document["files"]]
    total = sum(part["bytes"] for part in document["parts"])
    lines += ["", f"{len(document['parts'])} parts, {total:,} bytes in all."]
    return "\n".join(lines)


def main() -> None:
    """Do as the command line says; exit 2 with one line where that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("verb", choices=("split", "join", "list"))
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, nargs="?")
    parser.add_argument("--limit-mib", type=float, default=60.0)
    chosen = parser.parse_args()
    if chosen.verb != "list" and chosen.second is None:
        parser.error(f"{chosen.verb} needs two folders")
    try:
        if chosen.verb == "split":
            split(chosen.first, chosen.second, limit_bytes=int(chosen.limit_mib * (1 << 20)))
            sys.stdout.write(table(chosen.second) + "\n")
        elif chosen.verb == "join":
            sys.stdout.write("\n".join(join(chosen.first, chosen.second)) + "\n")
        else:
            sys.stdout.write(table(chosen.first) + "\n")
    except (PartsError, OSError) as error:
        sys.stderr.write(f"parts: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
