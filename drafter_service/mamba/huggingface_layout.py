"""Checkpoints that transformers reads: `state-spaces/mamba-130m-hf` and everything saved from `Mamba2ForCausalLM`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM

from drafter_service.mamba.checkpoint import Architecture, Checkpoint, unlimited
from draftpool.errors import ModelNotServable

_ARCHITECTURES: dict[str, Architecture] = {"mamba": "mamba", "mamba2": "mamba2"}


def read_huggingface_checkpoint(model: str) -> Checkpoint:
    """Raises ModelNotServable: not a Mamba, a variant that is not built here, or files that cannot be read."""
    try:
        config: Any = AutoConfig.from_pretrained(model)
        architecture = _architecture(model, config)
        loaded, info = _load(model)
    except (OSError, RuntimeError, StrictDataclassError, ValueError) as error:
        raise ModelNotServable(f"cannot read a model from {model!r}: {error}") from error
    if info["missing_keys"]:  # transformers would go on with random numbers
        raise ModelNotServable(f"{model!r} is no {architecture} checkpoint: it lacks {min(info['missing_keys'])!r}")
    limits = _limits(config)
    return Checkpoint(
        name=model,
        architecture=architecture,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        norm_eps=config.layer_norm_epsilon,
        num_groups=config.n_groups if architecture == "mamba2" else 1,
        time_step_limits=None if unlimited(limits) else limits,
        eos_token_ids=_as_ids(config.eos_token_id),
        num_parameters=loaded.num_parameters(),
        tensors=loaded.state_dict(),
    )


def _load(model: str) -> tuple[Any, dict[str, set[str]]]:
    """The model, and what transformers says of loading it."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    model_and_info: tuple[Any, dict[str, set[str]]] = loaded
    return model_and_info


def _architecture(model: str, config: Any) -> Architecture:
    """Raises ModelNotServable."""
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise ModelNotServable(
            f"{model!r} is a {config.model_type!r} model; the drafter runs Mamba-1 ('mamba') and Mamba-2 ('mamba2')"
        )
    if config.hidden_act not in ("silu", "swish"):
        raise ModelNotServable(f"{model!r} has hidden_act {config.hidden_act!r}; only 'silu' is supported")
    return architecture


def _limits(config: Any) -> tuple[float, float]:
    smallest, largest = getattr(config, "time_step_limit", (0.0, float("inf")))
    return float(smallest), float(largest)


def _as_ids(configured: int | Sequence[int] | None) -> tuple[int, ...]:
    if configured is None:
        return ()
    return (configured,) if isinstance(configured, int) else tuple(configured)
