#!/bin/sh
# Fetches what tests/heavy/test_flags.py reads: released sources of engines that cannot start here.
# Wheels only, without what they need; TensorRT-LLM's lie on NVIDIA's own index and are not read.
set -eu
target=${1:-.build/flags}
python=${PYTHON:-python3}
mkdir -p "$target/wheels"
"$python" -m pip download -q --no-deps --only-binary :all: --python-version 3.11 \
    --platform manylinux_2_34_x86_64 --platform any --dest "$target/wheels" \
    sglang==0.5.23 ai-dynamo==1.6.1
for wheel in "$target"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$target"
done
