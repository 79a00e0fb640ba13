"""
Gathers, as wheels, what the GPU machine lacks of what the protocol needs.

    python -m benchmarks.gpu.bundle [--engine transformers|vllm|llama-cpp] [--dest DIR]

The machine is Linux x86-64 with Python 3.12 and the packages of `present.txt`, and can download
nothing. pip resolves what is wanted together with what is present; what comes out that is not
present is fetched. `vllm` is slimmed (`slim.py`) and comes in numbered, checksummed parts
(`parts.py`), one of them if it fits into what one call may carry.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from . import parts, slim

ROOT = Path(__file__).resolve().parents[2]
PRESENT = Path(__file__).with_name("present.txt")
LIMIT_BYTES = 60 << 20
PART_BYTES = 50 << 20
"""Below the limit by what travels with a part: the working tree, and the wheels of any engine."""
LEFT_OUT = {"xllamacpp": "a CPU build of llama.cpp; only the engine llama_cpp needs it"}
"""Of joulemark's own dependencies: what the protocol does without, and why."""
WANTED = {
    "transformers": ["transformers[serving]"],
    # 0.24 to 0.26 pin torch 2.11.0. The wheel on PyPI is of CUDA 13: it links libnvrtc.so.13.
    "vllm": ["vllm==0.24.0"],
}
_OTHER_CARDS = "kernels for cards or models that are not served here"
_PRESENT_DOES = "what is present is imported instead"
_COMPILER = "a compiler is present"
VLLM_LEFT_OUT = {
    "flashinfer-cubin": "used if it is there; FlashAttention 3 is in vLLM's own wheel",
    "flashinfer-python": "same",
    "tokenspeed-mla": _OTHER_CARDS,
    "tokenspeed-triton": _OTHER_CARDS,
    "tilelang": _OTHER_CARDS,
    "z3-solver": "tilelang's",
    "humming-kernels": _OTHER_CARDS,
    "quack-kernels": _OTHER_CARDS,
    "nvidia-cutlass-dsl": _OTHER_CARDS,
    "nvidia-cutlass-dsl-libs-base": _OTHER_CARDS,
    "nvidia-cutlass-dsl-libs-cu13": _OTHER_CARDS,
    "cuda-bindings": _PRESENT_DOES,
    "cuda-core": _PRESENT_DOES,
    "cuda-pathfinder": _PRESENT_DOES,
    "cuda-python": _PRESENT_DOES,
    "cuda-tile": _OTHER_CARDS,
    "nvidia-cuda-cccl": _COMPILER,
    "nvidia-cuda-crt": _COMPILER,
    "nvidia-cuda-nvcc": _COMPILER,
    "nvidia-cuda-tileiras": _COMPILER,
    "nvidia-nvvm": _COMPILER,
    "numba": _PRESENT_DOES,
    "llvmlite": _PRESENT_DOES,
    "numpy": _PRESENT_DOES,
    "grpcio": _PRESENT_DOES,
    "protobuf": _PRESENT_DOES,
    "setuptools": _PRESENT_DOES,
    "pycountry": "for languages of speech models",
}
"""Of vLLM's dependencies: what serving gpt-oss on a Hopper card should do without, and why."""
LLAMA_SDIST = "llama-cpp-python==0.3.36"
_INSIDE = "vendor/llama.cpp/"
_NOT_BUILT = re.compile(
    r"(\.git|\.github|docs|models|tests|examples|benches|media|ci|gguf-py|scripts|pocs)/"
    r"|ggml/src/ggml-(cann|hexagon|metal|musa|opencl|openvino|sycl|virtgpu|vulkan|webgpu|zdnn)/"
)
"""What neither a CUDA nor a CPU build reads."""
_PINNED_ANYWAY = ("torch", "torchvision", "torchaudio")
"""Too large to carry, and bound to the driver: what is wanted must do with these."""
_MACHINE = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


class BundleError(Exception):
    """Something cannot be resolved or fetched; the message says what."""


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def present() -> dict[str, str | None]:
    """Name -> version, None where it is not known."""
    found: dict[str, str | None] = {}
    for line in PRESENT.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            found[normal(name)] = version or None
    return found


def own_requirements() -> list[str]:
    """Our own dependencies, as pyproject.toml has them, but for those left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        text
        for text in project["dependencies"]
        if normal(re.split(r"[ <>=!~\[;]", text, maxsplit=1)[0]) not in LEFT_OUT
    ]


def _target() -> list[str]:
    """Options of pip for the machine, whatever Python runs here."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    # pip checks Requires-Python against the Python it runs under, even for another target.
    options = ["--only-binary=:all:", "--ignore-requires-python", "--python-version", "3.12"]
    options += ["--implementation", "cp"]
    for abi in ("cp312", "abi3", "none"):
        options += ["--abi", abi]
    for platform in [*platforms, "linux_x86_64"]:
        options += ["--platform", platform]
    return options


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise BundleError("; ".join(lines[-3:]) or done.stderr[-300:])


def resolve(requirements: list[str]) -> list[dict[str, Any]]:
    """
    All distributions that *requirements* come to beside what is present.

    Raises:
        BundleError: they cannot be satisfied together with the versions that are present.
    """
    pins = [f"{n}=={v}" for n, v in present().items() if v and n in _PINNED_ANYWAY]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        _pip("install", "--quiet", "--dry-run", "--ignore-installed", "--target", f"{scratch}/t",
             "--report", str(report), *_target(), *requirements, *pins)  # fmt: skip
        return list(json.loads(report.read_text(encoding="utf-8"))["install"])


def lacking(installs: list[dict[str, Any]]) -> dict[str, str]:
    """
    Name -> version of what is resolved and has to be carried.

    A package that is present stays out if what is present will do: its version is known and
    fits what the others ask of it, or it is not known and nobody sets an upper limit.
    """
    have = present()
    by_name = {normal(install["metadata"]["name"]): install for install in installs}
    wanted: set[str] = set()
    while True:
        # What stays there has its own needs met there: only what is carried asks for anything.
        asked = _asked_of([by_name[name] for name in wanted])
        more = {
            name
            for name in by_name
            if name not in have or not _will_do(have[name], asked.get(name, []))
        }
        if more <= wanted:
            return {name: by_name[name]["metadata"]["version"] for name in sorted(wanted)}
        wanted |= more


def _asked_of(installs: list[dict[str, Any]]) -> dict[str, list[SpecifierSet]]:
    """Name -> what the resolved distributions ask of it."""
    asked: dict[str, list[SpecifierSet]] = {}
    for install in installs:
        extras = ["", *install.get("requested_extras", [])]
        for text in install["metadata"].get("requires_dist", []):
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({**_MACHINE, "extra": e}) for e in extras):
                asked.setdefault(normal(requirement.name), []).append(requirement.specifier)
    return asked


def _will_do(version: str | None, asked: list[SpecifierSet]) -> bool:
    if version is not None:
        return all(specifiers.contains(version, prereleases=True) for specifiers in asked)
    return not any(one.operator in {"==", "===", "<", "<=", "~="} for s in asked for one in s)


def fetch(wanted: dict[str, str], dest: Path) -> list[Path]:
    """Download the wheels of exactly these."""
    dest.mkdir(parents=True, exist_ok=True)
    exactly = [f"{name}=={version}" for name, version in wanted.items()]
    _pip("download", "--quiet", "--no-deps", "--dest", str(dest), *_target(), *exactly)
    return sorted(dest.glob("*.whl"))


def gather(requirements: list[str], dest: Path, *, without: Iterable[str] = ()) -> list[Path]:
    """Resolve, fetch and remove what an earlier resolution left in *dest*."""
    wanted = lacking(resolve(requirements))
    wanted = {name: version for name, version in wanted.items() if name not in set(without)}
    files = fetch(wanted, dest)
    names = {(normal(n), v) for n, v in wanted.items()}
    for path in list(files):
        name, version = path.name.split("-")[:2]
        if (normal(name), version.partition("+")[0]) not in {
            (n, v.partition("+")[0]) for n, v in names
        }:
            path.unlink()
            files.remove(path)
    return files


def llama_source(dest: Path) -> Path:
    """Sources of llama.cpp with its CUDA kernels, out of an sdist, without what no build reads."""
    with tempfile.TemporaryDirectory() as scratch:
        _pip("download", "--quiet", "--no-deps", "--no-binary", LLAMA_SDIST.partition("==")[0],
             "--dest", scratch, LLAMA_SDIST)  # fmt: skip
        sdist = next(Path(scratch).glob("*.tar.gz"))
        dest.mkdir(parents=True, exist_ok=True)
        slim = dest / "llama.cpp.tar.gz"
        with tarfile.open(sdist) as old, tarfile.open(slim, "w:gz") as new:
            for member in old:
                inside = member.name.partition("/")[2].partition(_INSIDE)
                if inside[0] or member.isdir() or _NOT_BUILT.match(inside[2]):
                    continue
                # A new entry: the old one may hold its long name a second time.
                content = old.extractfile(member)
                if content is not None:
                    data = content.read()
                    file = tarfile.TarInfo(f"llama.cpp/{inside[2]}")
                    file.size, file.mode = len(data), member.mode
                    new.addfile(file, io.BytesIO(data))
    return slim


def main() -> None:
    """Make the bundle and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--engine", choices=(*WANTED, "llama-cpp"), default="transformers")
    parser.add_argument("--dest", type=Path, default=ROOT / ".build" / "gpu-bundle")
    chosen = parser.parse_args()
    dest: Path = chosen.dest
    try:
        if chosen.engine == "llama-cpp":
            sources = llama_source(dest / "llama-cpp")
            sys.stdout.write(f"gpu-bundle: {sources.stat().st_size:,} bytes in {sources}\n")
            return
        files = gather([*own_requirements(), *WANTED["transformers"]], dest / "wheels")
        _report(files)
        if sum(path.stat().st_size for path in files) > LIMIT_BYTES:
            msg = f"the bundle is over {LIMIT_BYTES >> 20} MiB; leave something out"
            raise BundleError(msg)  # noqa: TRY301 - told like any other
        if chosen.engine == "vllm":
            base = {path.name for path in files}
            wheels = dest / "vllm-wheels"
            every = [*own_requirements(), *WANTED["vllm"]]
            for path in gather(every, wheels, without=VLLM_LEFT_OUT):
                if path.name in base:
                    path.unlink()
            slim.pack(wheels, dest / "vllm-slim" / "site.tar.xz")
            parts.split(dest / "vllm-slim", dest / "vllm", limit_bytes=PART_BYTES)
            sys.stdout.write(parts.table(dest / "vllm") + "\n")
            first = min((dest / "vllm").glob("part-*"))
            sys.stdout.write(f"gpu-bundle: {parts.of_a_call([*files, first], ROOT)}\n")
            _say_left_out(VLLM_LEFT_OUT)
            _say_left_out(slim.LEFT_OUT)
    except BundleError as error:
        sys.stderr.write(f"gpu-bundle: {error}\n")
        sys.exit(2)


def _report(files: list[Path]) -> None:
    for path in files:
        sys.stdout.write(f"{path.stat().st_size:>12,} {path.name}\n")
    total = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"{total:>12,} bytes in {len(files)} wheels\n")
    _say_left_out(LEFT_OUT)


def _say_left_out(left_out: Mapping[str, str]) -> None:
    for name, why in left_out.items():
        sys.stdout.write(f"gpu-bundle: left out: {name} ({why})\n")


if __name__ == "__main__":
    main()
