"""Model shapes from `config.json`: published parameter counts, quantisation, windows, refusals."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from harness.cost.catalogue_files import model_shape
from harness.errors import ConfigError
from harness.roofline.model import from_config

LLAMA_8B: dict[str, Any] = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
MIXTRAL = LLAMA_8B | {"vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK_V3 = {
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
QWEN3_30B = {
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "attention_bias": True,
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["x.self_attn"]},
}


def test_gpt_oss_120b_has_the_model_card_s_parameters():
    model = model_shape()
    assert model.total_params == pytest.approx(116.83e9, rel=1e-4)
    assert model.active_params == pytest.approx(5.13e9, rel=1e-3)
    assert model.weight_bytes / 2**30 == pytest.approx(60.8, abs=0.05)
    assert model.coverage(64) == pytest.approx(0.869, abs=0.0005)
    # 18 full layers and 18 of 128 tokens: 80.2 MB for a sequence of 2048 tokens in BF16
    assert model.attended(2048) * model.kv_values * 2 == pytest.approx(80.2e6, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (LLAMA_8B, 8.03e9, None),
        (MIXTRAL, 46.7e9, 12.75e9),
        (DEEPSEEK_V3, 671e9, 36.6e9),
        (QWEN3_30B, 30.5e9, 3.04e9),
        (GPT_OSS_20B, 20.9e9, 3.6e9),
    ],
    ids=["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "qwen3-30b-a3b", "gpt-oss-20b"],
)
def test_published_parameter_counts(config: dict[str, Any], total: float, active: float | None):
    model = from_config(config, name="x")
    assert model.total_params == pytest.approx(total, rel=5e-3)
    if active is not None:
        assert model.active_params == pytest.approx(active, rel=1e-2)


def test_latent_attention_caches_the_latent_and_the_rotary_part():
    model = from_config(DEEPSEEK_V3, name="x")
    assert model.kv_values == 512 + 64
    assert model.moe_layers == 58


def test_quantisation_reaches_what_the_config_says():
    deepseek, oss = from_config(DEEPSEEK_V3, name="x"), from_config(GPT_OSS_20B, name="x")
    assert (deepseek.linear_bits, deepseek.expert_bits) == (8.0, 8.0)
    assert (oss.linear_bits, oss.expert_bits) == (16.0, 4.25)
    plain = from_config(LLAMA_8B | {"torch_dtype": "float32"}, name="x")
    assert (plain.float_bytes, plain.linear_bits) == (4.0, 32.0)


@pytest.mark.parametrize(
    ("extra", "windows"),
    [
        ({}, (None,) * 4),
        ({"sliding_window": 16}, (16,) * 4),
        ({"sliding_window": 16, "use_sliding_window": False}, (None,) * 4),
        ({"sliding_window": 16, "sliding_window_pattern": 2}, (16, None, 16, None)),
        (
            {"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"] * 2},
            (None, 16, None, 16),
        ),
    ],
)
def test_sliding_windows(extra: dict[str, Any], windows: tuple[int | None, ...]):
    model = from_config(LLAMA_8B | {"num_hidden_layers": 4} | extra, name="x")
    assert model.windows == windows
    assert model.attended(100) == sum(min(100, one or 100) for one in windows)


def test_a_tied_table_is_counted_once():
    tied = from_config(LLAMA_8B | {"tie_word_embeddings": True}, name="x")
    untied = from_config(LLAMA_8B, name="x")
    assert untied.total_params - tied.total_params == untied.embedding_params
    assert untied.active_params == tied.active_params


def test_a_multimodal_config_is_read_by_its_text_part():
    outer = {"model_type": "x", "text_config": LLAMA_8B}
    assert from_config(outer, name="x").total_params == from_config(LLAMA_8B, name="x").total_params


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "num_hidden_layers is None"),
        (LLAMA_8B | {"hidden_size": "big"}, "hidden_size is 'big'"),
        (LLAMA_8B | {"mamba_d_state": 16}, "linear or sparse attention is not modelled"),
        (
            LLAMA_8B | {"layer_types": ["linear_attention"] * 32},
            r"unknown kinds \['linear_attention'\]",
        ),
        (LLAMA_8B | {"layer_types": ["full_attention"]}, "holds 1 layers"),
        (MIXTRAL | {"num_experts_per_tok": 9}, "num_experts_per_tok is 9 with 8 experts"),
        (LLAMA_8B | {"quantization_config": {"quant_method": "mystery"}}, "'mystery' is not known"),
    ],
)
def test_what_would_be_misjudged_is_refused(config: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        from_config(config, name="x")


def test_a_config_is_read_from_a_file_or_its_folder(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(orjson.dumps(LLAMA_8B))
    assert model_shape(path) == model_shape(tmp_path)
    assert model_shape(path).name == tmp_path.name
    path.write_text("[]")
    with pytest.raises(ConfigError, match="holds no JSON object"):
        model_shape(path)
    with pytest.raises(ConfigError, match="cannot be read as a model's config"):
        model_shape(tmp_path / "none.json")
