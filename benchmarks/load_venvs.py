"""Makes the environments in which benchmarks/load.py runs the peers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

VLLM_NEEDS = (
    "aiohttp tqdm regex aiohappyeyeballs aiosignal attrs frozenlist multidict propcache yarl idna "
    "typing_extensions"
)


def find_python() -> str:
    """A Python that all four peers take: 3.12 or 3.13 (inference-perf from, AIPerf below 3.14)."""
    kept = sorted(Path.home().glob(".pyenv/versions/3.1[23].*/bin/python3"))
    for candidate in (sys.executable, "python3.12", "python3.13", *map(str, kept)):
        check = [candidate, "-c", "import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))"]
        with contextlib.suppress(OSError):
            if not subprocess.run(check, capture_output=True, check=False).returncode:
                return candidate
    sys.exit("the peers need Python 3.12 or 3.13, and none was found; name one: --python PATH")


def make_venvs(folder: Path, python: str | None) -> None:
    """The environments that are missing; vLLM without dependencies, for its request function."""
    for name, packages in {
        "v_aiperf": ["aiperf==0.13.0"],
        "v_guide": ["guidellm==0.8.1"],
        "v_infperf": ["inference-perf==0.7.0"],
        "v_vllm": ["--no-deps", "vllm==0.33.0", *VLLM_NEEDS.split()],
    }.items():
        made = folder / name / "made"
        if made.exists():
            continue
        print(f"making {folder / name}", flush=True)
        python = python or find_python()
        subprocess.run([python, "-m", "venv", "--clear", folder / name], check=True)
        pip = [folder / name / "bin/pip", "install", "-q"]
        subprocess.run([*pip, *packages], check=True)
        made.touch()
    if not (folder / "tok/config.json").exists():
        script = Path(__file__).with_name("load_tokenizer.py")
        subprocess.run([folder / "v_infperf/bin/python", script, folder / "tok"], check=True)
