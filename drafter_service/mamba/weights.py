"""The weights of a recurrent model, arranged as the engine wants them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from drafter_service.mamba.checkpoint import Checkpoint
from drafter_service.mamba.group_norm import GroupNorm
from drafter_service.mamba.huggingface_layout import read_huggingface_checkpoint
from drafter_service.mamba.mamba1_weights import mamba1_mixers
from drafter_service.mamba.mamba2_weights import mamba2_mixers
from drafter_service.mamba.mixer import Mixer
from drafter_service.mamba.original_layout import read_original_checkpoint
from drafter_service.mamba.projection import Projection, projection
from draftpool.errors import ModelNotServable


@dataclass(frozen=True)
class RecurrentWeights:
    """A whole model.

    Attributes:
        embedding: (V, d_model) float32.
        mixers: the layers, first to last, all of one layout.
        norm: in front of every layer and of the head; what follows carries its weight.
        head: d_model to V logits.
        num_parameters: as the checkpoint counts them.
        eos_token_ids: of the checkpoint's configuration.
    """

    embedding: Tensor
    mixers: Sequence[Mixer]
    norm: GroupNorm
    head: Projection
    num_parameters: int
    eos_token_ids: tuple[int, ...]

    @property
    def vocab_size(self) -> int:
        return self.embedding.shape[0]

    def slot_bytes(self, state_dtype: torch.dtype) -> int:
        """What one text's state takes."""
        return len(self.mixers) * self.mixers[0].layout.num_numbers * state_dtype.itemsize


def load_mamba(model: str, *, dtype: torch.dtype, device: str, num_tokens: int | None = None) -> RecurrentWeights:
    """Load a Mamba-1 or Mamba-2 checkpoint in the layout of Hugging Face or of mamba_ssm.

    Args:
        model: a folder or a hub id.
        dtype: of the large matrices; float32 or bfloat16. Activations are float32 always.
        num_tokens: ids that the tokenizer has: rows that pad a vocabulary beyond them are never computed.

    Raises:
        ModelNotServable: not a Mamba, a variant that is not built here, or files that cannot be read.
    """
    checkpoint = _read_checkpoint(model)
    place = torch.device(device)
    vocab_size = checkpoint.vocab_size if num_tokens is None else min(num_tokens, checkpoint.vocab_size)
    embedding = checkpoint.tensor("backbone.embeddings.weight", place)[:vocab_size]
    d_model = embedding.shape[1]
    norm_scale = checkpoint.tensor("backbone.norm_f.weight", place) * math.sqrt(d_model)
    build_mixers = mamba2_mixers if checkpoint.architecture == "mamba2" else mamba1_mixers
    return RecurrentWeights(
        embedding=embedding,
        mixers=build_mixers(checkpoint, dtype, place),
        norm=GroupNorm.of(d_model, 1, checkpoint.norm_eps, place),
        head=projection(checkpoint.tensor("lm_head.weight", place)[:vocab_size] * norm_scale, None, dtype),
        num_parameters=checkpoint.num_parameters,
        eos_token_ids=checkpoint.eos_token_ids,
    )


def _read_checkpoint(model: str) -> Checkpoint:
    """Raises ModelNotServable."""
    try:
        path = cached_file(model, "config.json")
        config = json.loads(Path(path or "").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotServable(f"cannot read a model from {model!r}: {error}") from error
    is_original = "model_type" not in config and {"d_model", "n_layer", "vocab_size"} <= config.keys()
    return read_original_checkpoint(model, config) if is_original else read_huggingface_checkpoint(model)
