"""The target model: any decoder-only Hugging Face model that computes attention through `AttentionInterface`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from draftpool.vocabulary import Vocabulary
from verifier_service.attention import Attention


@dataclass(frozen=True)
class Target:
    """A model ready for tree attention, and what others have to know of it.

    Attributes:
        model: of transformers, in evaluation mode.
        name: that requests use.
        tokenizer_json: the contents of the tokenizer's file.
        vocabulary: what the V token ids stand for.
        max_context_tokens: the longest text its positions reach.
        unused_ids: (U,) int64, ids that no text has, there for the padding of the embedding alone; never chosen.
    """

    model: Any
    name: str
    tokenizer_json: str
    vocabulary: Vocabulary
    max_context_tokens: int
    num_parameters: int
    unused_ids: Tensor

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.vocabulary)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def architecture(self) -> str:
        """The model type of its configuration: llama, gpt_neox, ..."""
        return str(self.model.config.get_text_config().model_type)

    def logits(self, token_ids: Tensor, positions: Tensor, logit_rows: Tensor, attention: Attention) -> Tensor:
        """(R, V) float32: of rows (R,) of a pass over token ids (T,) at positions (T,); unused ids have -inf."""
        logits = self.run(token_ids, positions, logit_rows, attention)[0, :, : self.vocab_size].float()
        if len(self.unused_ids):
            logits.index_fill_(1, self.unused_ids, -torch.inf)
        return logits

    def run(self, token_ids: Tensor, positions: Tensor, logit_rows: Tensor, attention: Attention) -> Tensor:
        """(1, R, at least V): the model's own output for token ids (T,), positions (T,), rows (R,)."""
        logits: Tensor = self.model(
            input_ids=token_ids[None],
            position_ids=positions[None],
            logits_to_keep=logit_rows,
            use_cache=False,
            packed=attention,
        ).logits
        return logits
