"""
Packs wheels, unpacked, into one archive without what a Hopper card never runs.

    python -m benchmarks.gpu.slim WHEELS ARCHIVE.tar.xz

CUDA libraries hold their kernels once for every generation of cards. Machine code for others than
compute capability 9.0 is overwritten with zeros in place, which changes no offset and compresses to
nothing; what was compiled for no card of that generation (Marlin's kernels, which would be
translated from PTX at the first call) goes, too. vLLM 0.24.0 and what it needs shrink from 369 MB
to what one call can carry.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HOPPER = 90
LEFT_OUT: Mapping[str, str] = {
    "**/*.a": "static libraries",
    "include": "headers",
    "vllm/vllm_flash_attn/_vllm_fa2_C*": "FlashAttention 2; a Hopper card is served by 3",
    "vllm/vllm-rs": "a second front end",
    "vllm/_rust_tool_parser*": "same",
    "vllm/_flashmla*": "attention of DeepSeek models",
    "vllm/_qutlass_C*": "kernels of Blackwell cards",
    "vllm/third_party/fmha_sm100": "same",
    "vllm/third_party/deep_gemm": "kernels of FP8 models, compiled when they are used",
    "mistral_common/data/tekken*": "vocabularies of other models",
    "cudnn": "nvidia-cudnn-frontend, which FlashInfer alone uses",
    "nvidia_cudnn_frontend-*": "same",
}
"""Glob below the folder -> why serving a Llama or gpt-oss shape on a Hopper card does without."""
STRIPPED = ("xgrammar/libxgrammar_bindings.so",)
"""Their symbol tables are most of them. Not every library: what was patched for its wheel may not
survive it."""
_MAGIC = 0xBA55ED50
_SECTION = b".nv_fatbin"
_ELF_HEADER, _ELF_SECTION = struct.Struct("<HHH"), struct.Struct("<IIQQQQIIQQ")
_CONTAINER, _ENTRY, _ARCH_AT = struct.Struct("<IHHQ"), struct.Struct("<HHIQ"), 28
_MACHINE_CODE = 2


@dataclass(frozen=True, slots=True)
class Kernels:
    """
    One entry of a CUDA fat binary.

    Args:
        machine_code: or else PTX.
        arch: compute capability times ten.
        start: of the payload, in bytes from the file's beginning.
        size: of the payload, in bytes.
    """

    machine_code: bool
    arch: int
    start: int
    size: int


def kernels(data: bytes | bytearray) -> Iterator[Kernels]:
    """Every entry of the fat binaries in an ELF library; none where it has no CUDA code."""
    found = _section(data)
    if found is None:
        return
    at, end = found
    while at + _CONTAINER.size <= end:
        magic, _, header, size = _CONTAINER.unpack_from(data, at)
        if magic != _MAGIC:
            at += 8  # padding between two containers
            continue
        inside, at = at + header, at + header + size
        while inside < at:
            kind, _, entry_header, entry_size = _ENTRY.unpack_from(data, inside)
            (arch,) = struct.unpack_from("<I", data, inside + _ARCH_AT)
            inside += entry_header
            yield Kernels(kind == _MACHINE_CODE, arch, inside, entry_size)
            inside += entry_size


def _section(data: bytes | bytearray) -> tuple[int, int] | None:
    """Where the kernels lie in the file."""
    if data[:4] != b"\x7fELF":
        return None
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = _ELF_HEADER.unpack_from(data, 0x3A)
    sections = [_ELF_SECTION.unpack_from(data, table + n * size) for n in range(count)]
    names = sections[names_at][4]
    for name, _, _, _, offset, length, *_ in sections:
        start = names + name
        if data[start : start + len(_SECTION) + 1] == _SECTION + b"\0":
            return offset, offset + length
    return None


def prune(library: Path, *, arch: int = HOPPER) -> int:
    """
    Overwrite with zeros what *library* holds for other cards than *arch*.

    Returns:
        Bytes overwritten.
    """
    data = bytearray(library.read_bytes())
    gone = 0
    for entry in kernels(data):
        if not (entry.machine_code and entry.arch == arch):
            data[entry.start : entry.start + entry.size] = bytes(entry.size)
            gone += entry.size
    if gone:
        library.write_bytes(data)
    return gone


def pack(wheels: Path, archive: Path) -> int:
    """
    Unpack all wheels of a folder, leave out, prune, and pack again.

    Returns:
        Bytes of *archive*, a folder for PYTHONPATH.
    """
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch)
        for wheel in sorted(wheels.glob("*.whl")):
            subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
        for pattern in LEFT_OUT:
            for path in list(site.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for library in site.rglob("*.so"):
            prune(library)
        for name in STRIPPED if shutil.which("strip") else ():
            if (site / name).exists():
                subprocess.run(["strip", "--strip-unneeded", str(site / name)], check=True)
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            lzma.open(archive, "wb", preset=6) as stream,
            tarfile.open(fileobj=stream, mode="w|") as tar,
        ):
            # By kind: like stands by like, which is what compresses.
            for path in sorted(site.rglob("*"), key=lambda path: (path.suffix, str(path))):
                if path.is_file():
                    tar.add(path, arcname=str(path.relative_to(site)))
    return archive.stat().st_size


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("wheels", type=Path)
    parser.add_argument("archive", type=Path)
    chosen = parser.parse_args()
    size = pack(chosen.wheels, chosen.archive)
    sys.stdout.write(f"{size:,} bytes in {chosen.archive}\n")


if __name__ == "__main__":
    main()
