"""
Writes a GGUF file of a gpt-oss shape with random weights, its experts in MXFP4, for llama.cpp.

    python -m benchmarks.gpu.random_gguf gpt-oss-20b FILE.gguf

Weights are written as they are drawn, so memory stays small. A file of the 20b shape has about
12 GB: write it where it is used. Answers are noise; only their cost means anything.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import shapes

ALIGNMENT = 32
_F32, _F16, _MXFP4 = 0, 1, 39
_BLOCK, _BLOCK_BYTES = 32, 17
_SCALE_LOW, _SCALE_HIGH = 120, 124
"""Exponents of MXFP4 blocks (bias 127): weights of about 0.02 to 0.3."""
_STRING, _U32, _F32_VALUE, _ARRAY = 8, 4, 6, 9
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """
    One tensor to be written.

    Args:
        name: as llama.cpp looks for it.
        shape: innermost dimension first.
        kind: of its values.
        spread: standard deviation; 0: all ones, as a norm's.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    spread: float = 0.02

    @property
    def count(self) -> int:
        """Values in it."""
        total = 1
        for length in self.shape:
            total *= length
        return total

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        if self.kind == _MXFP4:
            return self.count // _BLOCK * _BLOCK_BYTES
        return self.count * (4 if self.kind == _F32 else 2)


def tensors(config: Mapping[str, Any]) -> list[Tensor]:
    """All tensors of a gpt-oss model."""
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    head, ffn = config["head_dim"], config["intermediate_size"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    experts = config["num_local_experts"]
    if width % _BLOCK or ffn % _BLOCK:
        msg = f"MXFP4 needs widths in multiples of {_BLOCK}, not {width} and {ffn}"
        raise ValueError(msg)
    found = [
        Tensor(name="token_embd.weight", shape=(width, vocabulary), kind=_F16),
        Tensor(name="output_norm.weight", shape=(width,), kind=_F32, spread=0),
        Tensor(name="output.weight", shape=(width, vocabulary), kind=_F16),
    ]
    for number in range(config["num_hidden_layers"]):

        def of(
            name: str, *shape: int, kind: int = _F32, spread: float = 0.02, n: int = number
        ) -> None:
            found.append(Tensor(name=f"blk.{n}.{name}", shape=shape, kind=kind, spread=spread))

        of("attn_norm.weight", width, spread=0)
        of("post_attention_norm.weight", width, spread=0)
        for name, length in (("q", queries), ("k", keys), ("v", keys)):
            of(f"attn_{name}.weight", width, length, kind=_F16)
            of(f"attn_{name}.bias", length)
        of("attn_output.weight", queries, width, kind=_F16)
        of("attn_output.bias", width)
        of("attn_sinks.weight", config["num_attention_heads"])
        of("ffn_gate_inp.weight", width, experts)
        of("ffn_gate_inp.bias", experts)
        for name, inner, outer in (("gate", width, ffn), ("up", width, ffn), ("down", ffn, width)):
            of(f"ffn_{name}_exps.weight", inner, outer, experts, kind=_MXFP4)
            of(f"ffn_{name}_exps.bias", outer, experts)
    return found


def metadata(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Keys that llama.cpp reads; a vocabulary of bytes and made-up words."""
    rope = config["rope_scaling"]
    return {
        "general.architecture": "gpt-oss",
        "general.name": f"{name}, RANDOM WEIGHTS",
        "gpt-oss.block_count": config["num_hidden_layers"],
        "gpt-oss.context_length": config["max_position_embeddings"],
        "gpt-oss.embedding_length": config["hidden_size"],
        "gpt-oss.feed_forward_length": config["intermediate_size"],
        "gpt-oss.expert_feed_forward_length": config["intermediate_size"],
        "gpt-oss.attention.head_count": config["num_attention_heads"],
        "gpt-oss.attention.head_count_kv": config["num_key_value_heads"],
        "gpt-oss.attention.key_length": config["head_dim"],
        "gpt-oss.attention.value_length": config["head_dim"],
        "gpt-oss.attention.sliding_window": config["sliding_window"],
        "gpt-oss.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "gpt-oss.expert_count": config["num_local_experts"],
        "gpt-oss.expert_used_count": config["num_experts_per_tok"],
        "gpt-oss.rope.freq_base": float(config["rope_theta"]),
        "gpt-oss.rope.scaling.type": rope["rope_type"],
        "gpt-oss.rope.scaling.factor": float(rope["factor"]),
        "gpt-oss.rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": _vocabulary(config["vocab_size"]),
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.eos_token_id": config["vocab_size"] - 1,
        "tokenizer.ggml.bos_token_id": config["vocab_size"] - 1,
    }


def _vocabulary(size: int) -> list[str]:
    """GPT-2's 256 byte letters, one merge, then words of our own."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + number) for number in range(256 - len(printable))]
    texts = [*letters, "th"]
    return [*texts, *(f"t{number}" for number in range(len(texts), size))][:size]


def write(file: BinaryIO, name: str, *, seed: int = 0) -> int:
    """
    Write the whole file.

    Returns:
        Bytes written.
    """
    config = shapes.by_name(name)
    values, wanted = metadata(config, name), tensors(config)
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(wanted), len(values)))
    for key, value in values.items():
        head += _text(key) + _value(value)
    offset = 0
    for tensor in wanted:
        head += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        head += struct.pack("<IQ", tensor.kind, offset)
        offset += -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
    head += bytes(-len(head) % ALIGNMENT)
    file.write(head)
    random = np.random.default_rng(seed)
    for tensor in wanted:
        file.writelines(_drawn(tensor, random))
        file.write(bytes(-tensor.bytes % ALIGNMENT))
    return len(head) + offset


def _drawn(tensor: Tensor, random: np.random.Generator) -> Iterator[bytes]:
    left = tensor.count
    while left:
        count = min(left, _CHUNK)
        left -= count
        if tensor.kind == _MXFP4:
            blocks = count // _BLOCK
            rows = random.integers(0, 256, (blocks, _BLOCK_BYTES), dtype=np.uint8)
            rows[:, 0] = random.integers(_SCALE_LOW, _SCALE_HIGH, blocks, dtype=np.uint8)
            yield rows.tobytes()
        else:
            drawn = (
                random.standard_normal(count, dtype=np.float32) * np.float32(tensor.spread)
                if tensor.spread
                else np.ones(count, dtype=np.float32)
            )
            yield (drawn if tensor.kind == _F32 else drawn.astype(np.float16)).tobytes()


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: str | float | Sequence[str]) -> bytes:
    match value:
        case str():
            return struct.pack("<I", _STRING) + _text(value)
        case int():
            return struct.pack("<II", _U32, value)
        case float():
            return struct.pack("<If", _F32_VALUE, value)
        case _:
            head = struct.pack("<IIQ", _ARRAY, _STRING, len(value))
            return head + b"".join(_text(text) for text in value)


def main() -> None:
    """Write the file that the command line names."""
    match sys.argv[1:]:
        case [name, path]:
            with Path(path).open("wb") as file:
                size = write(file, name)
            sys.stdout.write(f"{size:,} bytes of random weights in {path}\n")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
