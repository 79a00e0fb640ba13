#!/bin/sh
# Joins vLLM's parts on the GPU machine, verifies them, and installs them into a folder of their own.
#
#     benchmarks/gpu/vllm.sh keep    # once a call: takes this call's parts out of the carried folder
#     benchmarks/gpu/vllm.sh install # when all are there: prints the PYTHONPATH and PATH to use
#
# Nothing of the machine's Python is changed. KEEP is where parts wait between calls.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
keep=${KEEP:-/tmp/joulemark-vllm}
carried=$root/.build/gpu-bundle/vllm
case ${1:-} in
keep)
	mkdir -p "$keep/parts"
	cp "$carried"/part* "$keep/parts/"
	ls -l "$keep/parts"
	;;
install)
	python3 "$root/benchmarks/gpu/parts.py" join "$keep/parts" "$keep/wheels" >/dev/null
	python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
		--target "$keep/site" "$keep"/wheels/*.whl
	python3 - "$keep/site" <<'PY'
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in ("torch", "transformers", "vllm"):
    module = importlib.import_module(name)
    print(name, module.__version__, file=sys.stderr)
PY
	echo "export PYTHONPATH=$keep/site PATH=$keep/site/bin:\$PATH"
	;;
*)
	sed -n '2,7p' "$0" >&2
	exit 2
	;;
esac
