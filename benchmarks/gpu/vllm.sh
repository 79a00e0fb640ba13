#!/bin/sh
# Joins vLLM's parts on the GPU machine, verifies them, and unpacks them into a folder of their own.
#
#     benchmarks/gpu/vllm.sh keep    # once a call: takes this call's parts out of the carried folder
#     benchmarks/gpu/vllm.sh install # when all are there: prints the PYTHONPATH to use
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
	;;
install)
	if [ ! -d "$keep/site" ]; then
		python3 "$root/benchmarks/gpu/parts.py" join "$keep/parts" "$keep" >/dev/null
		mkdir "$keep/unpacked"
		tar -xJf "$keep/site.tar.xz" -C "$keep/unpacked" ||
			python3 -m tarfile -e "$keep/site.tar.xz" "$keep/unpacked"
		mv "$keep/unpacked" "$keep/site"
	fi
	echo "export PYTHONPATH=$keep/site"
	;;
*)
	sed -n '2,7p' "$0" >&2
	exit 2
	;;
esac
