"""Reads a Hugging Face `config.json` into the few numbers that bound a model's speed and energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.errors import ConfigError

BITS: Final = {"mxfp4": 4.25, "nvfp4": 4.5, "fp8": 8.0, "mxfp8": 8.25}
"""Bits a weight, shared scales included (MXFP4: one byte per 32; NVFP4: one per 16)."""
FLOAT_BYTES: Final = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
SUPPORTED_ATTENTION: Final = frozenset({"full_attention", "sliding_attention"})
FOREIGN_KEYS: Final = ("ssm_cfg", "mamba_d_state", "linear_num_value_heads", "index_topk")
"""Keys of recurrent, linear or sparse attention, which this model of attention would misjudge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """
    A decoder-only transformer, as far as bytes and operations go.

    Args:
        name: for the reader.
        hidden: width of the residual stream.
        windows: one entry a layer: its sliding window in tokens, None for full attention.
        attention_params: of one layer, norms included.
        dense_ffn_params: of all layers together: dense FFNs and shared experts.
        router_params: of all layers together.
        moe_layers: layers with routed experts; 0 for a dense model.
        experts: routed experts a layer.
        top_k: routed experts a token.
        expert_params: of one expert, biases included.
        expert_matrix_params: same without biases: what is multiplied.
        embedding_params: of one table (vocabulary times hidden).
        tied: input and output share one table.
        expert_bits: bits per weight of the experts' matrices.
        linear_bits: same of attention, dense FFN, shared experts.
        float_bytes: of what is not quantised: embeddings, router, norms.
        kv_values: cached values a token a layer.
        attention_flop: operations a token a layer for each token attended to.
    """

    name: str
    hidden: int
    windows: tuple[int | None, ...]
    attention_params: int
    dense_ffn_params: int
    router_params: int
    moe_layers: int
    experts: int
    top_k: int
    expert_params: int
    expert_matrix_params: int
    embedding_params: int
    tied: bool
    expert_bits: float
    linear_bits: float
    float_bytes: float
    kv_values: int
    attention_flop: int

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.windows)

    @property
    def linear_params(self) -> int:
        """Weights read at every step but for router and embeddings: attention and dense FFN."""
        return self.layers * self.attention_params + self.dense_ffn_params

    @property
    def total_params(self) -> int:
        """All weights."""
        tables = 1 if self.tied else 2
        routed = self.moe_layers * self.experts * self.expert_params
        return self.linear_params + self.router_params + routed + tables * self.embedding_params

    @property
    def active_params(self) -> int:
        """Weights one token is multiplied with: top-k experts, one embedding table (the output)."""
        routed = self.moe_layers * self.top_k * self.expert_params
        return self.linear_params + self.router_params + routed + self.embedding_params

    @property
    def expert_bytes(self) -> float:
        """One expert: matrices at their width, biases unquantised."""
        biases = self.expert_params - self.expert_matrix_params
        return self.expert_matrix_params * self.expert_bits / 8 + biases * self.float_bytes

    @property
    def all_experts_bytes(self) -> float:
        """Every routed expert of every layer."""
        return self.moe_layers * self.experts * self.expert_bytes

    @property
    def step_bytes(self) -> float:
        """Read at every step whatever the batch: attention, dense FFN, router, output table."""
        unquantised = (self.router_params + self.embedding_params) * self.float_bytes
        return self.linear_params * self.linear_bits / 8 + unquantised

    @property
    def weight_bytes(self) -> float:
        """Resident weights."""
        second = 0.0 if self.tied else self.embedding_params * self.float_bytes
        return self.all_experts_bytes + self.step_bytes + second

    def attended(self, context: float) -> float:
        """Tokens a new token attends to, summed over the layers."""
        return sum(context if w is None else min(context, w) for w in self.windows)

    def coverage(self, tokens: float) -> float:
        """Expected share of experts that *tokens* touch, a uniform router assumed."""
        if self.experts == 0:
            return 0.0
        missed: float = (1.0 - self.top_k / self.experts) ** tokens
        return 1.0 - missed


def from_config(config: Mapping[str, Any], *, name: str) -> ModelShape:
    """
    Read dense, MoE, GQA, MLA, sliding-window and quantised models.

    Args:
        config: a parsed `config.json`; a multimodal one is read by its `text_config`.
        name: for the reader.

    Raises:
        ConfigError: a key is missing, or the architecture is one whose cost we would misjudge.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**config, **text}
    for key in FOREIGN_KEYS:
        if config.get(key):
            raise ConfigError(
                f"{name} has {key!r}: recurrent, linear or sparse attention is not modelled",
                remedy="use a model with full or sliding-window attention",
            )
    layers = _whole(config, "num_hidden_layers", name)
    hidden = _whole(config, "hidden_size", name)
    attention, kv_values, attention_flop = _attention(config, hidden, name)
    moe = _experts(config, hidden, layers, name)
    bits, quantised = _quantisation(config, name)
    float_bytes = FLOAT_BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 2.0)
    return ModelShape(
        name=name,
        hidden=hidden,
        windows=_windows(config, layers, name),
        attention_params=attention,
        embedding_params=_whole(config, "vocab_size", name) * hidden,
        tied=bool(config.get("tie_word_embeddings", False)),
        expert_bits=bits if bits is not None else float_bytes * 8,
        linear_bits=bits if bits is not None and quantised else float_bytes * 8,
        float_bytes=float_bytes,
        kv_values=kv_values,
        attention_flop=attention_flop,
        **moe,
    )


def _whole(config: Mapping[str, Any], key: str, name: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"{name}: {key} is {value!r}, a positive whole number is needed",
            remedy="give the config.json of a decoder-only transformer",
        )
    return value


def _attention(config: Mapping[str, Any], hidden: int, name: str) -> tuple[int, int, int]:
    heads = _whole(config, "num_attention_heads", name)
    norms = 2 * hidden
    if config.get("kv_lora_rank"):
        return _latent_attention(config, hidden, heads, norms, name)
    kv_heads = _whole(config, "num_key_value_heads", name, heads)
    head_dim = config.get("head_dim") or hidden // heads
    q_width, kv_width = heads * head_dim, kv_heads * head_dim
    params = hidden * (q_width + 2 * kv_width) + q_width * hidden + norms
    if config.get("attention_bias"):
        params += q_width + 2 * kv_width + hidden
    if config.get("model_type") == "gpt_oss":
        params += heads  # one learned sink a head
    return params, 2 * kv_width, 4 * q_width


def _latent_attention(
    config: Mapping[str, Any], hidden: int, heads: int, norms: int, name: str
) -> tuple[int, int, int]:
    latent = _whole(config, "kv_lora_rank", name)
    rope = _whole(config, "qk_rope_head_dim", name)
    nope = _whole(config, "qk_nope_head_dim", name)
    value = _whole(config, "v_head_dim", name)
    query_rank = config.get("q_lora_rank")
    query = (
        query_rank * (hidden + heads * (nope + rope)) + query_rank
        if query_rank
        else hidden * heads * (nope + rope)
    )
    keys = hidden * (latent + rope) + latent * heads * (nope + value) + latent
    params = query + keys + heads * value * hidden + norms
    # In decoding the up-projections are absorbed: scores and sums run over the latent itself.
    return params, latent + rope, 2 * heads * (2 * latent + rope)


def _first(config: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _experts(config: Mapping[str, Any], hidden: int, layers: int, name: str) -> dict[str, int]:
    inner = _whole(config, "intermediate_size", name)
    experts = _first(config, ("num_local_experts", "n_routed_experts", "num_experts"))
    if experts is None:
        dense = layers * 3 * hidden * inner
        return dict.fromkeys(("router_params", "moe_layers", "experts", "top_k"), 0) | {
            "dense_ffn_params": dense,
            "expert_params": 0,
            "expert_matrix_params": 0,
        }
    top_k = _first(config, ("num_experts_per_tok", "experts_per_token"))
    if top_k is None or top_k > experts:
        raise ConfigError(
            f"{name}: num_experts_per_tok is {top_k!r} with {experts} experts",
            remedy="give the config.json of a mixture-of-experts model",
        )
    width = _first(config, ("moe_intermediate_size",)) or inner
    dense_layers = _dense_layers(config, layers)
    shared = (_first(config, ("n_shared_experts",)) or 0) * width
    shared = _first(config, ("shared_expert_intermediate_size",)) or shared
    moe_layers = layers - dense_layers
    biased = config.get("model_type") == "gpt_oss"
    matrices = 3 * hidden * width
    return {
        "dense_ffn_params": 3 * hidden * (dense_layers * inner + moe_layers * shared),
        "router_params": moe_layers * (hidden * experts + (experts if biased else 0)),
        "moe_layers": moe_layers,
        "experts": experts,
        "top_k": top_k,
        "expert_matrix_params": matrices,
        "expert_params": matrices + (2 * width + hidden if biased else 0),
    }


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    named = config.get("mlp_only_layers") or ()
    step = _first(config, ("moe_layer_freq", "decoder_sparse_step")) or 1
    first = _first(config, ("first_k_dense_replace",)) or 0
    sparse = [n for n in range(first, layers) if n not in named and (n + 1) % step == 0]
    return layers - len(sparse)


def _windows(config: Mapping[str, Any], layers: int, name: str) -> tuple[int | None, ...]:
    window = _first(config, ("sliding_window",))
    kinds = config.get("layer_types")
    if kinds is not None:
        unknown = sorted(set(kinds) - SUPPORTED_ATTENTION)
        if unknown or len(kinds) != layers:
            raise ConfigError(
                f"{name}: layer_types holds {len(kinds)} layers, of unknown kinds {unknown}",
                remedy=f"only {', '.join(sorted(SUPPORTED_ATTENTION))} are modelled",
            )
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if window is None or config.get("use_sliding_window") is False:
        return (None,) * layers
    pattern = _first(config, ("sliding_window_pattern",))
    return tuple(None if pattern and (n + 1) % pattern == 0 else window for n in range(layers))


def _quantisation(config: Mapping[str, Any], name: str) -> tuple[float | None, bool]:
    """Bits of what is quantised, and whether that is the linear layers too or experts alone."""
    quantisation = config.get("quantization_config")
    if not quantisation:
        return None, False
    method = str(quantisation.get("quant_method", quantisation.get("quant_algo", ""))).lower()
    if method in {"gptq", "awq"} and isinstance(quantisation.get("bits"), int):
        return float(quantisation["bits"]), True
    if method not in BITS:
        raise ConfigError(
            f"{name}: quant_method {method!r} is not known",
            remedy=f"known are: {', '.join(BITS)}, gptq, awq",
        )
    kept = " ".join(quantisation.get("modules_to_not_convert") or ())
    return BITS[method], "self_attn" not in kept
