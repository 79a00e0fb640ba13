"""
A vLLM plugin that draws random weights for `--load-format dummy`, those of MXFP4 experts included.

vLLM 0.24's own dummy loader draws floating-point weights from ±0.001 and leaves integer ones as
they were made, and the packed experts of gpt-oss are made as zeros. A card that multiplies by
zeros draws less power than one that serves a model, so its joules would be nobody's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEED = 0
STANDARD_DEVIATION = 0.02
"""That of `initializer_range` in the configurations served here."""
SCALE_BYTES = (119, 122)
"""Exponents of a block of MXFP4, from and below: 2^-8 to 2^-6, times values of root mean square
2.9 for uniform nibbles, which is near STANDARD_DEVIATION."""


def register() -> None:
    """What vLLM calls in every one of its processes: the entry point `vllm.general_plugins`."""
    from vllm.model_executor.model_loader import dummy_loader  # noqa: PLC0415 - only under vLLM

    dummy_loader.DummyModelLoader.load_weights = _load_weights


def _load_weights(self: Any, model: Any, model_config: Any) -> None:  # noqa: ANN401 - vLLM's
    del self, model_config
    counts = draw(model)
    sys.stderr.write(f"RANDOM WEIGHTS: {json.dumps(counts)}\n")


def draw(model: Any, *, seed: int = SEED) -> dict[str, int]:  # noqa: ANN401 - a torch module
    """
    Fill every parameter of *model* in place.

    Returns:
        Parameters drawn by kind: `normal`, `ones` (norms), `packed` (bytes of two MXFP4 values
        each) and `scale` (bytes, a block's exponent).

    Raises:
        TypeError: a parameter of a kind that this does not know how to draw.
    """
    import torch  # noqa: PLC0415 - only where there is one

    counts = dict.fromkeys(("normal", "ones", "packed", "scale"), 0)
    generators: dict[Any, Any] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            data = parameter.data
            generator = generators.get(data.device)
            if generator is None:
                generator = torch.Generator(device=data.device).manual_seed(seed)
                generators[data.device] = generator
            kind = _kind(name, data)
            if kind == "scale":
                data.random_(*SCALE_BYTES, generator=generator)
            elif kind == "packed":
                data.random_(0, 256, generator=generator)
            elif kind == "ones":
                data.fill_(1.0)
            else:
                data.normal_(0.0, STANDARD_DEVIATION, generator=generator)
            counts[kind] += data.numel()
    return counts


def _kind(name: str, data: Any) -> str:  # noqa: ANN401 - a tensor
    import torch  # noqa: PLC0415 - same

    if data.dtype == torch.uint8:
        return "scale" if name.endswith("_scale") else "packed"
    if data.dtype not in {torch.bfloat16, torch.float16, torch.float32}:
        msg = f"{name} is of {data.dtype}; only bfloat16, float16, float32 and uint8 are drawn"
        raise TypeError(msg)
    return "ones" if "norm" in name and data.ndim == 1 else "normal"


def write_program(folder: Path) -> Path:
    """
    Put a program called `vllm` into *folder*, and what names `register` as its plugin.

    *folder* belongs on PATH and on PYTHONPATH. A vLLM that was unpacked, not installed, brings no
    program of its own.
    """
    facts = folder / "joulemark_vllm_weights-0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: joulemark-vllm-weights\nVersion: 0\n", encoding="utf-8"
    )
    (facts / "entry_points.txt").write_text(
        f"[vllm.general_plugins]\njoulemark_random_weights = {__name__}:register\n",
        encoding="utf-8",
    )
    program = folder / "vllm"
    program.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m vllm.entrypoints.cli.main "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    return program
