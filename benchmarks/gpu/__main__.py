"""
`python3 -m benchmarks.gpu`: makes joulemark importable on a bare machine, then runs `check.py`.

Standard library only. Wheels that `make gpu-bundle` gathered are unpacked into a folder of their
own, nothing of the machine is changed; the NVML library is looked for where drivers put it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".build" / "gpu-bundle" / "wheels"
NEEDED = ("click", "httptools", "numpy", "orjson", "pandas", "pyarrow", "pynvml", "ruptures",
          "scipy", "uvloop")  # fmt: skip
NVML_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu",
                "/usr/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib")  # fmt: skip
_MARK = "JOULEMARK_GPU_CHECK_SITE"


def lacking() -> list[str]:
    """What has to be installed and is not."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def site() -> Path | None:
    """Make, if need be, the folder with the bundle's packages; None: not needed, or no bundle."""
    if not lacking() or sys.version_info[:2] != (3, 12):
        return None
    wheels = sorted(WHEELS.glob("*.whl")) if WHEELS.is_dir() else []
    if not wheels:
        return None
    names = "\n".join(path.name for path in wheels)
    target = ROOT / ".build" / f"gpu-site-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
    if target.exists():
        return target
    scratch = target.with_suffix(".part")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
               "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(scratch)]  # fmt: skip
    done = subprocess.run([*install, *map(str, wheels)], capture_output=True, check=False)
    if done.returncode:
        sys.stderr.write("gpu-check: pip cannot install the bundle; unpacking it instead\n")
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch)
    scratch.rename(target)
    return target


def nvml_folder() -> str | None:
    """Where libnvidia-ml.so.1 is, if the loader does not find it by itself."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        for folder in NVML_FOLDERS:
            if (Path(folder) / "libnvidia-ml.so.1").exists():
                return folder
    return None


def main() -> None:
    """Set the environment up and become `check.py`."""
    if os.environ.get(_MARK) is None:
        found = site()
        # Ours last: an engine that was installed by hand may need other versions.
        given = os.environ.get("PYTHONPATH")
        joined = os.pathsep.join(str(p) for p in (ROOT, given, found) if p)
        variables = {**os.environ, _MARK: str(found or "none"), "PYTHONPATH": joined}
        variables.setdefault("PYTHONUNBUFFERED", "1")
        folder = nvml_folder()
        if folder is not None:
            others = os.environ.get("LD_LIBRARY_PATH")
            variables["LD_LIBRARY_PATH"] = f"{folder}:{others}" if others else folder
        os.execve(  # noqa: S606 - this very program again
            sys.executable, [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:]], variables
        )
    missing = lacking()
    if missing:
        sys.stderr.write(
            f"gpu-check: not installed here: {', '.join(missing)}; run `make gpu-bundle` on a"
            f" machine with a network and carry {WHEELS.relative_to(ROOT)} along (wheels for Python"
            f" 3.12; this is {sys.version_info.major}.{sys.version_info.minor})\n"
        )
        sys.exit(2)
    from . import check  # noqa: PLC0415 - only now is what it needs importable

    check.main()


if __name__ == "__main__":
    main()
