"""Checkpoints as mamba_ssm saves them: `state-spaces/mamba-130m`, `state-spaces/mamba2-130m`.

A `config.json` of mamba_ssm's own `MambaConfig` beside `pytorch_model.bin` or `model.safetensors`. No tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from drafter_service.mamba.checkpoint import Architecture, Checkpoint, unlimited
from draftpool.errors import ModelNotServable

_NORM_EPS = 1e-5
"""mamba_ssm's default, which its configuration cannot change."""

_ARCHITECTURES: dict[str, Architecture] = {"Mamba1": "mamba", "Mamba2": "mamba2"}

_PLAIN_OPTIONS = frozenset(
    (
        *("layer", "d_state", "d_conv", "expand", "conv_bias", "bias", "dt_rank", "use_fast_path"),
        *("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range", "conv_init"),
        *("headdim", "ngroups", "D_has_hdim", "dt_limit", "chunk_size", "use_mem_eff_path"),
    )
)
"""Of `ssm_cfg`: they show in the tensors' shapes, are read below, or only matter to training."""

_FIXED_OPTIONS = {"rmsnorm": True, "norm_before_gate": False, "activation": "swish", "d_ssm": None}
"""Of `ssm_cfg`: the one value of each that is built here."""


def read_original_checkpoint(model: str, config: Mapping[str, Any]) -> Checkpoint:
    """Read the weights that a configuration describes.

    Args:
        model: a folder or a hub id.
        config: its `config.json`.

    Raises:
        ModelNotServable: a variant that is not built here, or files that cannot be read.
    """
    ssm_config = config.get("ssm_cfg") or {}
    architecture = _architecture(model, config, ssm_config)
    tensors = _read_tensors(model)
    tensors["backbone.embeddings.weight"] = tensors.pop("backbone.embedding.weight", torch.empty(0))
    if config.get("tie_embeddings", True):
        tensors["lm_head.weight"] = tensors["backbone.embeddings.weight"]
    limits = tuple(ssm_config.get("dt_limit", (0.0, float("inf"))))
    return Checkpoint(
        name=model,
        architecture=architecture,
        num_layers=config["n_layer"],
        vocab_size=config["vocab_size"],
        norm_eps=_NORM_EPS,
        num_groups=ssm_config.get("ngroups", 1) if architecture == "mamba2" else 1,
        time_step_limits=None if unlimited(limits) else limits,
        eos_token_ids=(),
        num_parameters=sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in tensors.values()}.values()),
        tensors=tensors,
    )


def _architecture(model: str, config: Mapping[str, Any], ssm_config: Mapping[str, Any]) -> Architecture:
    """Raises ModelNotServable."""
    layer = ssm_config.get("layer", "Mamba1")
    architecture = _ARCHITECTURES.get(layer)
    if architecture is None:
        raise ModelNotServable(f"{model!r} has layers of kind {layer!r}; the drafter runs Mamba1 and Mamba2")
    if config.get("attn_layer_idx"):
        raise ModelNotServable(f"{model!r} is a hybrid: layers {config['attn_layer_idx']} are attention")
    if config.get("d_intermediate"):
        raise ModelNotServable(f"{model!r} has MLP layers (d_intermediate {config['d_intermediate']})")
    if not config.get("rms_norm", True):
        raise ModelNotServable(f"{model!r} has layer norms; only rms_norm true is supported")
    for option, value in ssm_config.items():
        if option in _FIXED_OPTIONS and value != _FIXED_OPTIONS[option]:
            raise ModelNotServable(f"{model!r} has {option} {value!r}; only {_FIXED_OPTIONS[option]!r} is supported")
        if option not in _FIXED_OPTIONS and option not in _PLAIN_OPTIONS:
            raise ModelNotServable(f"{model!r} has an option of its layers that is not known here: {option!r}")
    return architecture


def _read_tensors(model: str) -> dict[str, Tensor]:
    """Raises ModelNotServable."""
    if path := _find(model, "model.safetensors"):
        return dict(load_file(path))
    path = _find(model, "pytorch_model.bin")
    if path is None:
        raise ModelNotServable(f"{model!r} has neither model.safetensors nor pytorch_model.bin")
    try:
        # Mapped: of half-precision weights only what is being converted is in memory.
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except (RuntimeError, UnpicklingError) as error:
        raise ModelNotServable(f"cannot read the weights of {model!r}: {error}") from error


def _find(model: str, file_name: str) -> str | None:
    path: str | None = cached_file(model, file_name, _raise_exceptions_for_missing_entries=False)
    return path
