"""From a folder or hub id to a target: model, tokenizer, vocabulary."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils.hub import cached_file

from draftpool.dtypes import torch_dtype
from draftpool.errors import ModelNotServable
from draftpool.packed_linear import pack_linear_layers
from draftpool.vocabulary import Vocabulary
from verifier_service.attention import TREE_ATTENTION
from verifier_service.context_length import max_context_tokens
from verifier_service.placement import ON_CPU, Placement, refuse_uneven_slices
from verifier_service.quantization import quantization_config
from verifier_service.refusal import refuse_other_attention, servable_config
from verifier_service.target import Target


def load_target(
    model: str,
    *,
    name: str | None = None,
    dtype: str = "auto",
    placement: Placement = ON_CPU,
    quantization: str | None = None,
) -> Target:
    """Load a model and its tokenizer. `verifier_service.fitness` then says whether it can be served.

    Args:
        model: a folder, or a hub id.
        dtype: bfloat16, float16, float32, or auto.
        placement: where it is loaded to; of several ranks, each calls this and gets its slice.
        quantization: see `quantization_config`; a checkpoint that is quantised already needs none.

    Raises:
        ModelNotServable: it cannot be loaded, or is not a decoder-only attention model.
        BadParameter: no such device, or no such quantisation.
    """
    options: dict[str, Any] = {"dtype": torch_dtype(dtype, placement.torch_device())}
    if quantization is not None:
        options["quantization_config"] = quantization_config(quantization)
    try:
        config = servable_config(model)
        loaded = _load_model(model, config, placement, options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelNotServable(f"{model} cannot be loaded: {_first_line(error)}") from error
    refuse_other_attention(loaded, model)
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
        max_context_tokens=max_context_tokens(text_config),
        num_parameters=num_parameters,
        unused_ids=_unused_ids(tokenizer_json, text_config.vocab_size).to(loaded.device),
    )


def served_name(model: str) -> str:
    """The name a target goes by when it is given none: the last part of its folder or hub id."""
    return PurePath(model.rstrip("/")).name or model


def _load_model(model: str, config: Any, placement: Placement, options: dict[str, Any]) -> Any:
    """A model of transformers where it belongs, in evaluation mode; of several ranks, this one's slice."""
    if placement.num_ranks > 1:
        refuse_uneven_slices(config, model, placement.num_ranks)
    is_quantized = "quantization_config" in options or getattr(config, "quantization_config", None) is not None
    placed = placement.loading_options(is_quantized=is_quantized)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, attn_implementation=TREE_ATTENTION, **options, **placed)
    if not placed:
        loaded = loaded.to(device=placement.torch_device())
    return loaded.eval().requires_grad_(False)


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


def _unused_ids(tokenizer_json: str, vocab_size: int) -> Tensor:
    description = json.loads(tokenizer_json)
    vocab = description["model"]["vocab"]
    known = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    known.update(added["id"] for added in description.get("added_tokens") or [])
    return torch.tensor(sorted(set(range(vocab_size)) - known), dtype=torch.int64)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
