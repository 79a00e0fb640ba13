#!/bin/sh
# Makes the environment of tests/heavy/test_dynamo.py: Dynamo's frontend and mocker, no torch.
# A plain `pip install ai-dynamo` fails: aisimulate is a stub for an index of its own.
set -eu
target=${1:-.build/dynamo}
python=${PYTHON:-python3}
[ -x "$target/bin/python" ] || "$python" -m venv "$target"
"$target/bin/pip" install -q --upgrade pip
"$target/bin/pip" install -q --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1
"$target/bin/pip" install -q 'aiohttp<4,>=3.14.3' certifi 'kubernetes<33,>=32.0.1' msgspec \
    'prometheus-client<1' pyzmq 'redis<9,>=6.2' tqdm transformers typing-extensions 'zstandard<1' \
    'pydantic>=2.10.6,<=2.13.5' uvloop
