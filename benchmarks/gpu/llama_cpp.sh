#!/bin/sh
# Builds llama.cpp's server from the sources that `make gpu-bundle ENGINE=llama-cpp` gathered, and serves
# a GGUF file with it, for `gpu-check --engine llama-cpp`.
#
#     benchmarks/gpu/llama_cpp.sh build [cuda|cpu]      # into .build/llama-cpp/build
#     benchmarks/gpu/llama_cpp.sh serve FILE.gguf [PORT] # in the background; prints its process id
#
# CUDA: nvcc on the machine, kernels for Hopper alone (CUDA_ARCHS=90), or the build takes hours.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/.build/llama-cpp
source=$root/.build/gpu-bundle/llama-cpp/llama.cpp.tar.gz
case ${1:-} in
build)
	[ -f "$source" ] || { echo "llama_cpp: $source is missing: make gpu-bundle ENGINE=llama-cpp" >&2; exit 2; }
	mkdir -p "$here"
	[ -d "$here/llama.cpp" ] || tar -xzf "$source" -C "$here"
	cuda=OFF
	[ "${2:-cuda}" = cuda ] && cuda=ON
	if [ $cuda = ON ] && ! command -v nvcc >/dev/null; then
		PATH=$PATH:/usr/local/cuda/bin
		command -v nvcc >/dev/null || { echo "llama_cpp: no nvcc on PATH: build cpu instead" >&2; exit 2; }
	fi
	hints=""
	command -v ninja >/dev/null && hints="-G Ninja"
	# Where the toolkit is the compiler alone, cuBLAS is the one that came with torch.
	blas=$(python3 -c 'import importlib.util as u, pathlib as p
s = u.find_spec("nvidia")
found = [f for r in (s.submodule_search_locations if s else []) for f in p.Path(r).rglob("cublas_v2.h")]
print(found[0].parent.parent if found else "")')
	if [ $cuda = ON ] && [ -n "$blas" ] && ! [ -f "$(dirname "$(command -v nvcc)")/../include/cublas_v2.h" ]; then
		lib=$(ls "$blas"/lib/libcublas.so.* | head -1)
		hints="$hints -DCUDA_cublas_LIBRARY=$lib -DCUDA_cublasLt_LIBRARY=$(ls "$blas"/lib/libcublasLt.so.* | head -1)"
		hints="$hints -DCMAKE_CXX_FLAGS=-I$blas/include -DCMAKE_CUDA_FLAGS=-I$blas/include"
		hints="$hints -DCMAKE_BUILD_RPATH=$blas/lib"
	fi
	# Without virtual memory management nothing links to the driver's own library, which may have no stub.
	# shellcheck disable=SC2086
	cmake -S "$here/llama.cpp" -B "$here/build" $hints -DCMAKE_BUILD_TYPE=Release -DGGML_CUDA_NO_VMM=ON \
		-DGGML_CUDA=$cuda -DCMAKE_CUDA_ARCHITECTURES="${CUDA_ARCHS:-90}" -DGGML_NATIVE="${NATIVE:-ON}" \
		-DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
		-DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
		-DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT=sdist >"$here/cmake.log" 2>&1 ||
		{ tail -20 "$here/cmake.log" >&2; exit 1; }
	cmake --build "$here/build" --target llama-server -j "${JOBS:-$(nproc)}" >"$here/build.log" 2>&1 ||
		{ grep -i -m5 error "$here/build.log" >&2; exit 1; }
	ls -l "$here/build/bin/llama-server"
	;;
serve)
	port=${3:-8080}
	setsid "$here/build/bin/llama-server" -m "$2" --host 127.0.0.1 --port "$port" --metrics --slots \
		-np "${SLOTS:-64}" -c "${CONTEXT:-32768}" -ngl "${LAYERS:-99}" --no-webui \
		>"$here/server.log" 2>&1 </dev/null &
	pid=$!
	for _ in $(seq 120); do
		if command -v curl >/dev/null; then
			curl -sf "http://127.0.0.1:$port/health" >/dev/null && { echo $pid; exit 0; }
		elif python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health')" 2>/dev/null; then
			echo $pid
			exit 0
		fi
		kill -0 $pid 2>/dev/null || break
		sleep 1
	done
	tail -5 "$here/server.log" >&2
	exit 1
	;;
*)
	sed -n '2,8p' "$0" >&2
	exit 2
	;;
esac
