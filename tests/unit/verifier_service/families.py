"""A tiny model with random weights of every family of targets that is tested, by name; and of those refused.

Windows are shorter than the contexts of the tests, heads share keys and values where the family can, and whatever a
family does in its own way (soft caps, sinks, layers without positions, experts) is switched on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCAB_SIZE = 272
WINDOW = 6

_TINY = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
_GROUPED = _TINY | {"num_key_value_heads": 2}
_ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

_LATENT = {
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}

_IMAGES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}

ModelMaker = Callable[[], PreTrainedModel]


def _model(config: str, auto: str = "AutoModelForCausalLM", **options: Any) -> ModelMaker:
    """A maker of the model that transformers has for a configuration of that name."""

    def make() -> PreTrainedModel:
        torch.manual_seed(11)
        made: PreTrainedModel = getattr(transformers, auto).from_config(
            getattr(transformers, config + "Config")(**options)
        )
        return made

    return make


SERVED: dict[str, ModelMaker] = {
    "llama": _model("Llama", **_GROUPED),
    "llama with one key-value head": _model("Llama", **_TINY, num_key_value_heads=1),
    "llama, llama3 positions": _model(
        "Llama",
        **_GROUPED,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "llama, yarn positions": _model(
        "Llama",
        **_GROUPED,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "mistral": _model("Mistral", **_GROUPED, sliding_window=WINDOW),
    "ministral": _model("Ministral", **_GROUPED, head_dim=8, **_ALTERNATING),
    "qwen2": _model("Qwen2", **_GROUPED),
    "qwen2 with a window": _model(
        "Qwen2", **_GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": _model("Qwen3", **_GROUPED, head_dim=16),
    "gpt-neox": _model("GPTNeoX", **_TINY, rotary_pct=0.25, use_parallel_residual=True),
    "gpt-neox in sequence": _model("GPTNeoX", **_TINY, rotary_pct=1.0, use_parallel_residual=False),
    "gpt-2": _model(
        "GPT2",
        vocab_size=VOCAB_SIZE,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=256,
        eos_token_id=256,
        scale_attn_by_inverse_layer_idx=True,
    ),
    "gpt-bigcode": _model(
        "GPTBigCode",
        vocab_size=VOCAB_SIZE,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=256,
        eos_token_id=256,
        multi_query=True,
    ),
    "opt": _model(
        "OPT",
        **{key: value for key, value in _TINY.items() if key not in ("intermediate_size", "initializer_range")},
        ffn_dim=48,
        init_std=0.3,
        word_embed_proj_dim=24,
    ),
    "gemma": _model("Gemma", **_GROUPED, head_dim=16),
    "gemma2": _model(
        "Gemma2",
        **_GROUPED,
        head_dim=16,
        query_pre_attn_scalar=20,
        attn_logit_softcapping=1.5,
        final_logit_softcapping=3.0,
        **_ALTERNATING,
    ),
    "gemma3": _model("Gemma3Text", **_GROUPED, head_dim=16, query_pre_attn_scalar=20, **_ALTERNATING),
    "gemma3, text of a model with images": _model(
        "Gemma3",
        text_config=_GROUPED | _ALTERNATING | {"head_dim": 16, "query_pre_attn_scalar": 20},
        vision_config=_IMAGES | {"model_type": "siglip_vision_model"},
    ),
    "gemma4, layers that share keys and differ in size": _model(
        "Gemma4Text",
        **_GROUPED | {"num_hidden_layers": 4},
        head_dim=8,
        global_head_dim=16,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB_SIZE,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "phi": _model("Phi", **_TINY, partial_rotary_factor=0.5, qk_layernorm=True),
    "phi3": _model("Phi3", **_GROUPED, sliding_window=WINDOW),
    "phi3, longrope": _model(
        "Phi3",
        **_GROUPED,
        original_max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 100.0,
            "short_factor": [1.0, 1.5, 2.0, 2.5],
            "long_factor": [4.0, 5.0, 6.0, 7.0],
            "original_max_position_embeddings": 64,
        },
    ),
    "starcoder2": _model("Starcoder2", **_GROUPED, sliding_window=WINDOW),
    "olmo": _model("Olmo", **_GROUPED, clip_qkv=2.0),
    "olmo2": _model("Olmo2", **_GROUPED),
    "olmo3": _model("Olmo3", **_GROUPED, **_ALTERNATING),
    "granite": _model(
        "Granite",
        **_GROUPED,
        attention_multiplier=0.3,
        embedding_multiplier=2.0,
        residual_multiplier=0.7,
        logits_scaling=3.0,
    ),
    "cohere": _model("Cohere", **_GROUPED, use_qk_norm=True),
    "cohere2": _model("Cohere2", **_GROUPED, **_ALTERNATING),
    "smollm3": _model("SmolLM3", **_GROUPED, no_rope_layers=[1, 0]),
    "glm4": _model("Glm4", **_GROUPED, head_dim=8),
    "exaone4": _model("Exaone4", **_GROUPED, **_ALTERNATING),
    "mixtral": _model("Mixtral", **_GROUPED, num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW),
    "qwen2-moe": _model("Qwen2Moe", **_GROUPED, **_EXPERTS, shared_expert_intermediate_size=24),
    "qwen3-moe": _model("Qwen3Moe", **_GROUPED, **_EXPERTS, head_dim=8),
    "olmoe": _model("Olmoe", **_GROUPED, num_experts=4, num_experts_per_tok=2),
    "granite-moe": _model("GraniteMoe", **_GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "gpt-oss": _model("GptOss", **_GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2, **_ALTERNATING),
    "deepseek-v2": _model("DeepseekV2", **_GROUPED | {"num_key_value_heads": 4}, **_LATENT),
    "deepseek-v3": _model("DeepseekV3", **_GROUPED | {"num_key_value_heads": 4}, **_LATENT),
}

_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}

REFUSED: dict[str, tuple[ModelMaker, str]] = {
    "mamba": (_model("Mamba", vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2), "recurrent or hybrid"),
    "mamba-2": (
        _model("Mamba2", vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2, num_heads=4, head_dim=8),
        "recurrent or hybrid",
    ),
    "rwkv": (_model("Rwkv", vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2), "recurrent or hybrid"),
    "recurrent-gemma": (
        _model("RecurrentGemma", **_GROUPED | {"num_hidden_layers": 3}, lru_width=32),
        "recurrent or hybrid",
    ),
    "jamba": (
        _model("Jamba", **_GROUPED, attn_layer_period=2, attn_layer_offset=1, num_experts=2),
        "recurrent or hybrid",
    ),
    "bamba": (
        _model("Bamba", **_GROUPED, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16),
        "recurrent or hybrid",
    ),
    "qwen3-next": (_model("Qwen3Next", **_GROUPED, **_EXPERTS, **_HYBRID), "recurrent or hybrid"),
    "lfm2": (_model("Lfm2", **_GROUPED, layer_types=["conv", "full_attention"]), "recurrent or hybrid"),
    "t5": (
        _model("T5", "AutoModelForSeq2SeqLM", vocab_size=VOCAB_SIZE, d_model=16, d_kv=8, d_ff=16, num_layers=1),
        "encoder-decoder",
    ),
    "bart": (
        _model("Bart", "AutoModelForSeq2SeqLM", vocab_size=VOCAB_SIZE, d_model=16, encoder_layers=1, decoder_layers=1),
        "encoder-decoder",
    ),
    "bert": (_model("Bert", **_TINY), "attends to later tokens"),
    "bloom": (_model("Bloom", vocab_size=VOCAB_SIZE, hidden_size=16, n_layer=1, n_head=2), "AttentionInterface"),
    "falcon": (
        _model("Falcon", vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, alibi=True),
        "AttentionInterface",
    ),
    "mpt": (_model("Mpt", vocab_size=VOCAB_SIZE, d_model=16, n_layers=1, n_heads=2), "AttentionInterface"),
    "gpt-j": (
        _model("GPTJ", vocab_size=VOCAB_SIZE, n_embd=16, n_layer=1, n_head=2, rotary_dim=4),
        "AttentionInterface",
    ),
    "codegen": (
        _model("CodeGen", vocab_size=VOCAB_SIZE, n_embd=16, n_layer=1, n_head=4, rotary_dim=4),
        "AttentionInterface",
    ),
    "xlnet": (
        _model("XLNet", vocab_size=VOCAB_SIZE, d_model=16, n_layer=1, n_head=2, d_inner=16),
        "AttentionInterface",
    ),
    "llama4": (_model("Llama4Text", **_GROUPED, intermediate_size_mlp=48), "layers of chunked_attention"),
    "doge": (_model("Doge", **_GROUPED), "mask|keyword arguments"),
    "diffllama": (_model("DiffLlama", **_GROUPED), "more than once"),
    "stablelm": (_model("StableLm", **_GROUPED), "keyword arguments"),
    "nemotron": (_model("Nemotron", **_GROUPED), "keyword arguments"),
    "roberta": (_model("Roberta", **_TINY | {"pad_token_id": 1}, is_decoder=True), "otherwise than its paths"),
    "qwen2-moe with a window": (
        _model("Qwen2Moe", **_GROUPED, **_EXPERTS, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
        "does not tell its attention function",
    ),
    "phimoe with a window": (
        _model("Phimoe", **_GROUPED, num_local_experts=4, sliding_window=WINDOW),
        "does not tell its attention function",
    ),
    "llava": (
        _model(
            "Llava",
            "AutoModelForImageTextToText",
            text_config={"model_type": "llama", **_GROUPED},
            vision_config=_IMAGES | {"model_type": "clip_vision_model"},
        ),
        "not among the causal language models",
    ),
}
