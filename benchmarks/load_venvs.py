"""Makes the environments in which benchmarks/load.py runs the peers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"
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
    for name, steps in {
        "v_aiperf": [["aiperf==0.13.0"]],
        # torch for the CPU first: GuideLLM would take the one for CUDA, 6 GB of it.
        "v_guide": [["torch", "--index-url", TORCH_FOR_CPU], ["guidellm==0.8.1"]],
        "v_infperf": [["inference-perf==0.7.0"]],
        "v_vllm": [["--no-deps", "vllm==0.33.0", *VLLM_NEEDS.split()]],
    }.items():
        made = folder / name / "made"
        if made.exists():
            continue
        print(f"making {folder / name}", flush=True)
        python = python or find_python()
        subprocess.run([python, "-m", "venv", "--clear", folder / name], check=True)
        for step in steps:
            command = [folder / name / "bin/pip", "install", "-q", *step]
            # A constraint of this machine on torch would bar the build for the CPU.
            subprocess.run(command, check=True, env=os.environ | {"PIP_CONSTRAINT": os.devnull})
        made.touch()
    if not (folder / "tok/config.json").exists():
        script = Path(__file__).with_name("load_tokenizer.py")
        subprocess.run([folder / "v_infperf/bin/python", script, folder / "tok"], check=True)
