#!/bin/sh
# Makes the environment of tests/heavy/test_transformers.py: `transformers serve` on the CPU.
set -eu
target=${1:-.build/transformers}
python=${PYTHON:-python3}
[ -x "$target/bin/python" ] || "$python" -m venv "$target"
"$target/bin/pip" install -q --upgrade pip
"$target/bin/pip" install -q torch==2.13.0 'transformers[serving]==5.23.0'
