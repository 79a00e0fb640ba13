"""
Compiles the Triton kernels of gpt-oss' experts on vLLM before the engine meets them under load.

    python -m benchmarks.gpu.vllm_kernels [--tokens 8192] [--processes N]

vLLM 0.24 compiles them when they are first called, and some of their compile-time constants depend
on how many tokens a step has: the padded length of the routing bitmap is one, so every new multiple
of 32 tokens compiles two kernels anew while all requests wait, seconds at a time. The compiler
needs no card. So vLLM's own function for a layer of experts is called here on empty tensors, for
every kind of step, in processes of their own, with launching left out; what is compiled goes into
Triton's cache on disk (TRITON_CACHE_DIR), where the engine finds it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

TOKENS = 8192
"""Of a step at most: vLLM's `max_num_batched_tokens` for such a card."""
EXPERTS, EXPERTS_A_TOKEN = 128, 4
HIDDEN = INTERMEDIATE = 2880
"""gpt-oss-120b; its published configuration."""
_BLOCK = 32
"""Tokens that share a word of the routing bitmap."""
_PER_BYTE, _PER_SCALE = 2, 32
CAPABILITY, PROCESSORS, SHARED_BYTES = (9, 0), 132, 232_448
"""What is asked of the card: an H100's or H200's compute capability, its multiprocessors, and the
shared memory that a block may have."""
_OFFSETS = (0, 1, 2, 4, 8)
"""Tokens below a multiple of 32. Whether a count is 1 or divisible by 16 is a compile-time constant
as well, and what is counted are tokens, and two, four and eight times as many."""


def steps(most: int) -> list[int]:
    """
    Numbers of tokens that between them meet every kernel that a step of up to *most* tokens can.

    Small steps first: an engine that is up before all is compiled meets them most.

    >>> steps(64)
    [1, 32, 31, 30, 28, 24, 64, 63, 62, 60, 56]
    """
    blocks = range(_BLOCK, most - most % -_BLOCK + 1, _BLOCK)
    found = [block - offset for block in blocks for offset in _OFFSETS]
    return [1, *(tokens for tokens in found if 1 < tokens <= most)]


@contextlib.contextmanager
def compiling_only() -> Iterator[list[str]]:
    """
    Have Triton compile for a Hopper card, and launch nothing.

    No context is made on a card, if there is one: its memory is the engine's.

    Yields:
        The names of the kernels called, in order.
    """
    import torch  # noqa: PLC0415 - only where there is one
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415 - same
    from triton.runtime import driver  # noqa: PLC0415 - same
    from triton.runtime.jit import JITFunction  # noqa: PLC0415 - same

    target = GPUTarget("cuda", CAPABILITY[0] * 10 + CAPABILITY[1], 32)
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: 0,
            get_current_stream=lambda *_: 0,
            get_active_torch_device=lambda: torch.device("meta"),
            get_device_interface=lambda: torch.cuda,
        )
    )
    torch.cuda.get_device_capability = lambda *_: CAPABILITY
    torch.cuda.get_device_properties = lambda *_: SimpleNamespace(
        multi_processor_count=PROCESSORS,
        shared_memory_per_block_optin=SHARED_BYTES,
        major=CAPABILITY[0],
        minor=CAPABILITY[1],
    )
    called: list[str] = []
    own = JITFunction.run

    def compiled(self: Any, *values: Any, grid: Any, **options: Any) -> Any:  # noqa: ANN401
        called.append(self.__name__)
        return own(self, *values, grid=grid, **{**options, "warmup": True})

    JITFunction.run = compiled
    try:
        yield called
    finally:
        JITFunction.run = own


class Layer:
    """
    One layer of experts as vLLM prepares it, its weights' values left as they come.

    Raises:
        ImportError: no vLLM, or one whose functions are elsewhere.
    """

    def __init__(self) -> None:
        import torch  # noqa: PLC0415 - only where there is one
        from vllm.model_executor.layers.fused_moe.experts import (  # noqa: PLC0415 - same
            gpt_oss_triton_kernels_moe,
        )
        from vllm.model_executor.layers.quantization.utils import (  # noqa: PLC0415 - same
            mxfp4_utils,
        )

        # vLLM brings it along, and gives it its name when it is imported itself.
        matmul = importlib.import_module("triton_kernels.matmul_ogs")
        # Tensors without memory: what is compiled depends on shapes, kinds and alignment alone.
        self._empty = functools.partial(torch.empty, device="meta")
        self._bfloat16 = torch.bfloat16
        self._forward = gpt_oss_triton_kernels_moe.triton_kernel_moe_forward
        self._weights, configs, biases = [], [], []
        for rows, columns in ((2 * INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)):
            packed = self._empty((EXPERTS, rows, columns // _PER_BYTE), dtype=torch.uint8)
            scale = self._empty((EXPERTS, rows, columns // _PER_SCALE), dtype=torch.uint8)
            weight, flex, scale = mxfp4_utils._swizzle_mxfp4(packed, scale)  # noqa: SLF001 - vLLM's
            self._weights.append(weight)
            context = matmul.FlexCtx(rhs_data=flex)
            configs.append(matmul.PrecisionConfig(weight_scale=scale, flex_ctx=context))
            biases.append(self._empty((EXPERTS, rows), dtype=torch.float32))
        self._config = SimpleNamespace(
            w1_bias=biases[0], w2_bias=biases[1], w1_precision=configs[0], w2_precision=configs[1]
        )

    def step(self, tokens: int) -> None:
        """Call vLLM's function for a step of so many tokens."""
        self._forward(
            hidden_states=self._empty((tokens, HIDDEN), dtype=self._bfloat16),
            w1=self._weights[0],
            w2=self._weights[1],
            gating_output=self._empty((tokens, EXPERTS), dtype=self._bfloat16),
            topk=EXPERTS_A_TOKEN,
            renormalize=True,
            quant_config=self._config,
            global_num_experts=EXPERTS,
        )


def compile_all(most: int, processes: int) -> dict[str, Any]:
    """
    Compile for every step of up to *most* tokens, in so many processes.

    Returns:
        `steps`, `seconds`, `processes`, and `kernels`: name -> calls.
    """
    started = time.monotonic()
    wanted = steps(most)
    with compiling_only():
        layer = Layer()
    # Forked: what one process has laid out all the others share.
    queue = multiprocessing.get_context("fork")
    shares = [wanted[place::processes] for place in range(processes)]
    pipes = []
    for share in shares:
        mine, theirs = queue.Pipe(duplex=False)
        process = queue.Process(target=_work, args=(layer, share, theirs))
        process.start()
        theirs.close()
        pipes.append((process, mine))
    kernels: dict[str, int] = {}
    for process, pipe in pipes:
        for name, calls in pipe.recv().items():
            kernels[name] = kernels.get(name, 0) + calls
        process.join()
    return {
        "steps": len(wanted),
        "seconds": round(time.monotonic() - started, 1),
        "processes": processes,
        "kernels": kernels,
    }


def _work(layer: Layer, share: list[int], pipe: Any) -> None:  # noqa: ANN401 - a connection
    os.nice(5)  # the engine's start goes first
    with compiling_only() as called:
        for tokens in share:
            layer.step(tokens)
    counts: dict[str, int] = {}
    for name in called:
        counts[name] = counts.get(name, 0) + 1
    pipe.send(counts)


def main() -> None:
    """Compile, and print what as one line of JSON; exit 2 with one line where there is no vLLM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 4) - 4))
    chosen = parser.parse_args()
    try:
        done = compile_all(chosen.tokens, chosen.processes)
    except ImportError as error:
        sys.stderr.write(f"vllm_kernels: {error}; kernels are compiled as the engine meets them\n")
        sys.exit(2)
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
