"""Models that cannot be served, told by what transformers says of them; `verifier_service.fitness` runs the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

from draftpool.errors import ModelNotServable
from verifier_service.context_length import max_context_tokens

_SERVED_LAYERS = {"full_attention", "sliding_attention"}

_RECURRENT_LAYERS = {"linear_attention", "conv", "hybrid", "hybrid_sliding", "mamba", "recurrent"}
"""Layers that carry a state from token to token, alone or beside attention."""


def servable_config(model: str) -> Any:
    """The configuration of a model that may be served, read before any weight is loaded.

    Raises:
        ModelNotServable: it is not that of a decoder made of attention layers that tree attention can be put into.
        OSError: there is none.
        ValueError: transformers does not know it.
    """
    described, _ = PreTrainedConfig.get_config_dict(model)
    if "auto_map" in described and described.get("model_type") not in CONFIG_MAPPING:
        raise ModelNotServable(f"{model} brings its own Python code, and a verifier runs only that of transformers")
    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    if config.is_encoder_decoder:
        raise ModelNotServable(f"{model} is an encoder-decoder model; a verifier serves decoder-only models")
    _refuse_other_layers(config, model)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelNotServable(f"{model} ({config.model_type}) is not among the causal language models of transformers")
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if model_class._is_stateful:
        raise _recurrent(model)
    if not model_class._can_set_attn_implementation():
        raise ModelNotServable(
            f"{model} ({config.model_type}) does not compute attention through transformers' "
            "AttentionInterface, so tree attention cannot be put in"
        )
    return config


def refuse_other_attention(loaded: Any, model: str) -> None:
    """Look at the attention layers of a loaded model.

    Raises:
        ModelNotServable: they see later tokens.
    """
    layers = (module for module in loaded.modules() if hasattr(module, "layer_idx"))
    if any(getattr(layer, "is_causal", True) is False for layer in layers):
        raise ModelNotServable(
            f"{model} ({loaded.config.model_type}) attends to later tokens too, as encoders do; "
            "a verifier serves decoder-only models"
        )


def refuse_lost_windows(config: Any, windows: Sequence[int | None], model: str) -> None:
    """See that every layer asked for the window that its configuration gives it.

    Some models put the window into the mask that transformers makes and leave it out of what they tell the attention
    function. Up to the window they compute the same, so running a short text would not show it.

    Args:
        windows: what each layer asked for.

    Raises:
        ModelNotServable: a layer would see more than it should, or less.
    """
    text_config = config.get_text_config()
    longest = max_context_tokens(text_config)
    window = getattr(text_config, "sliding_window", None)
    layer_types = getattr(text_config, "layer_types", None) or ["sliding_attention"] * len(windows)
    for layer_type, given in zip(layer_types, windows, strict=True):
        expected = window if layer_type == "sliding_attention" else None
        # A window as long as the longest text is none.
        if min(given or longest, longest) != min(expected or longest, longest):
            raise ModelNotServable(
                f"{model} ({config.model_type}) has a sliding window that it does not tell its attention function, "
                "so tree attention would see beyond it"
            )


def _refuse_other_layers(config: Any, model: str) -> None:
    others = set(getattr(config.get_text_config(), "layer_types", None) or ()) - _SERVED_LAYERS
    if others & _RECURRENT_LAYERS:
        raise _recurrent(model)
    if others:
        raise ModelNotServable(
            f"{model} ({config.model_type}) has layers of {', '.join(sorted(others))}; "
            "tree attention computes full and sliding-window attention"
        )


def _recurrent(model: str) -> ModelNotServable:
    return ModelNotServable(
        f"{model} is a recurrent or hybrid model, whose state a rejected draft would spoil; "
        "a verifier serves models made of attention layers"
    )
