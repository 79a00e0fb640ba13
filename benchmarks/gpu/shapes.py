"""Shapes of published models, by their configuration files: weights are made up where they run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GREEDY_NEVER_ENDS: Mapping[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0}
"""No end-of-sequence id: answers are exactly as long as asked. Sampled: a greedy choice of random
weights soon repeats one token, and then wakes the same experts for ever."""

_CUT = re.compile(r"(?P<shape>.+)-of-(?P<layers>\d+)-layers")
_LLAMA_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
_GPT_OSS_ROPE = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "rope_type": "yarn",
    "truncate": False,
}


def llama_3_1_8b() -> dict[str, Any]:
    """Llama-3.1-8B: dense, grouped-query attention, 8.03 billion parameters."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": dict(_LLAMA_ROPE),
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 128256,
    }


def gpt_oss(*, layers: int, experts: int, mxfp4: bool) -> dict[str, Any]:
    """A gpt-oss model: 24 layers of 32 experts are the 20b, 36 of 128 the 120b."""
    config: dict[str, Any] = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "max_position_embeddings": 131072,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "num_local_experts": experts,
        "output_router_logits": False,
        "rms_norm_eps": 1e-05,
        "rope_scaling": dict(_GPT_OSS_ROPE),
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 201088,
    }
    if mxfp4:
        config["quantization_config"] = {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        }
    return config


def tiny(kind: str) -> dict[str, Any]:
    """A shape of the same architecture that a CPU serves: to try the way, never to measure."""
    config = llama_3_1_8b() if kind == "llama" else gpt_oss(layers=2, experts=4, mxfp4=False)
    config |= {
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
    }
    if kind != "llama":
        config["head_dim"] = 32
    return config


def is_cut(name: str) -> bool:
    """Whether only the first layers of a shape are meant."""
    return _CUT.fullmatch(name) is not None


def by_name(name: str) -> dict[str, Any]:
    """
    The configuration of a shape; `SHAPE-of-N-layers` has its first layers only, to try a way.

    Raises:
        KeyError: there is none of that name; the message lists those there are.
    """
    known = {
        "llama-3.1-8b": llama_3_1_8b,
        "gpt-oss-20b": lambda: gpt_oss(layers=24, experts=32, mxfp4=False),
        "gpt-oss-120b-mxfp4": lambda: gpt_oss(layers=36, experts=128, mxfp4=True),
        "tiny-llama": lambda: tiny("llama"),
        "tiny-gpt-oss": lambda: tiny("gpt-oss"),
    }
    cut = _CUT.fullmatch(name)
    if cut and cut["shape"] in known:
        config, layers = known[cut["shape"]](), int(cut["layers"])
        config["num_hidden_layers"] = layers
        if "layer_types" in config:
            config["layer_types"] = config["layer_types"][:layers]
        return config
    if name not in known:
        msg = f"there is no shape {name!r}; choose one of {', '.join(known)}"
        raise KeyError(msg)
    return known[name]()
