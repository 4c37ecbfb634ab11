"""From a folder or hub id to a target: model, tokenizer, vocabulary."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils.hub import cached_file

from draftpool.errors import BadParameter, ModelNotServable
from draftpool.vocabulary import Vocabulary
from verifier_service.attention import TREE_ATTENTION
from verifier_service.packed_linear import pack_linear_layers
from verifier_service.target import Target


def load_target(model: str, *, name: str | None = None, dtype: str = "auto", device: str = "cpu") -> Target:
    """Load a model and its tokenizer. `verifier_service.fitness` then says whether it can be served.

    Args:
        model: a folder, or a hub id.
        dtype: bfloat16, float16, float32, or auto.

    Raises:
        ModelNotServable: it cannot be loaded, or is not a decoder-only attention model.
        BadParameter: no such device.
    """
    torch_device = _device(device)
    torch_dtype = _default_dtype(torch_device) if dtype == "auto" else getattr(torch, dtype)
    try:
        config = AutoConfig.from_pretrained(model)
        _refuse_other_kinds(config, model)
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch_dtype, attn_implementation=TREE_ATTENTION)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelNotServable(f"{model} cannot be loaded: {_first_line(error)}") from error
    loaded = loaded.to(device=torch_device).eval().requires_grad_(False)
    _refuse_other_attention(loaded, model)
    num_parameters = loaded.num_parameters()
    pack_linear_layers(loaded)
    text_config = config.get_text_config()
    tokenizer_json = _tokenizer_json(model)
    vocabulary = Vocabulary.from_tokenizer_json(
        tokenizer_json, vocab_size=text_config.vocab_size, eos_token_ids=_eos_token_ids(loaded.generation_config)
    )
    return Target(
        model=loaded,
        name=name or served_name(model),
        tokenizer_json=tokenizer_json,
        vocabulary=vocabulary,
        max_context_tokens=_max_context_tokens(text_config),
        num_parameters=num_parameters,
        unused_ids=_unused_ids(tokenizer_json, text_config.vocab_size).to(torch_device),
    )


def served_name(model: str) -> str:
    """The name a target goes by when it is given none: the last part of its folder or hub id."""
    return PurePath(model.rstrip("/")).name or model


def _refuse_other_kinds(config: Any, model: str) -> None:
    if config.is_encoder_decoder:
        raise ModelNotServable(f"{model} is an encoder-decoder model; a verifier serves decoder-only models")
    layer_types = getattr(config.get_text_config(), "layer_types", None) or []
    if set(layer_types) - {"full_attention", "sliding_attention"}:
        raise _recurrent(model)


def _refuse_other_attention(loaded: Any, model: str) -> None:
    if loaded._is_stateful:
        raise _recurrent(model)
    if not loaded._can_set_attn_implementation():
        raise ModelNotServable(
            f"{model} ({loaded.config.model_type}) does not compute attention through transformers' "
            "AttentionInterface, so tree attention cannot be put in"
        )


def _recurrent(model: str) -> ModelNotServable:
    return ModelNotServable(
        f"{model} is a recurrent or hybrid model, whose state a rejected draft would spoil; "
        "a verifier serves models made of attention layers"
    )


def _device(device: str) -> torch.device:
    try:
        torch_device = torch.device(device)
        torch.empty(0, device=torch_device)
    except (RuntimeError, AssertionError) as error:
        raise BadParameter(f"device {device!r} cannot be used: {_first_line(error)}") from error
    return torch_device


def _default_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        is_fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
        return torch.bfloat16 if is_fast else torch.float32
    return torch.bfloat16


def _tokenizer_json(model: str) -> str:
    try:
        path = cached_file(model, "tokenizer.json")
    except OSError as error:
        raise ModelNotServable(f"{model} has no tokenizer.json, which clients need to encode text") from error
    with open(str(path), encoding="utf-8") as file:
        return file.read()


def _eos_token_ids(generation_config: GenerationConfig) -> list[int]:
    eos_token_id = generation_config.eos_token_id
    if eos_token_id is None:
        return []
    return [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id)


def _max_context_tokens(config: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    raise ModelNotServable(f"the configuration of this {config.model_type} does not say how long a text may be")


def _unused_ids(tokenizer_json: str, vocab_size: int) -> Tensor:
    description = json.loads(tokenizer_json)
    vocab = description["model"]["vocab"]
    known = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    known.update(added["id"] for added in description.get("added_tokens") or [])
    return torch.tensor(sorted(set(range(vocab_size)) - known), dtype=torch.int64)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
