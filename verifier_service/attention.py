"""Tree attention as an attention function of transformers.

All new tokens of a pass, of all sessions, lie in one row: (1, T) token ids, no padding. transformers hands the model's
keyword arguments through to the attention function of every layer, which is how the pass's `Attention` gets there.
No mask function is registered under the name: transformers then makes no mask of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface

from draftpool.errors import ModelNotServable

TREE_ATTENTION = "draftpool_tree"

_NOT_DONE_HERE = {
    "position_bias": "a position bias on attention scores",
    "head_mask": "a mask on heads",
    "cross_attention": "cross attention",
}
"""Options by which models ask an attention function for more than it does."""


@dataclass(frozen=True)
class AttentionOptions:
    """What a layer wants beyond softmax(query keys^T) values.

    Attributes:
        scaling: of the scores.
        window: a query sees the keys less than so many positions before it; None sees all.
        softcap: scores s become softcap * tanh(s / softcap).
        sinks: (num_heads,) one more score for each head, that takes weight and has no value.
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


class Attention(Protocol):
    """Computes the attention of every layer of one pass."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        """Attention of one layer.

        Args:
            query: (1, num_heads, T, key_dim) of the new tokens.
            key: (1, num_kv_heads, T, key_dim).
            value: (1, num_kv_heads, T, value_dim).

        Returns:
            (1, T, num_heads, value_dim).
        """


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; `options` are the module's and, among them, those of the model's call.

    Raises:
        ModelNotServable: the model asks for something that is not done here, or was called without a layout.
    """
    for name, description in _NOT_DONE_HERE.items():
        if options.get(name) is not None:
            raise ModelNotServable(f"the model uses {description}, which this verifier does not support")
    if not options.get("is_causal", getattr(module, "is_causal", True)):
        raise ModelNotServable("the model's attention looks ahead of the token that it computes")
    attention: Attention | None = options.get("packed")
    if attention is None:
        raise ModelNotServable("the model does not hand its keyword arguments through to its attention layers")
    if attention_mask is not None:
        raise ModelNotServable("the model makes an attention mask of its own")
    layer: int = module.layer_idx  # type: ignore[assignment]
    wanted = AttentionOptions(
        scaling=query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"],
        window=options.get("sliding_window"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )
    return attention.attend(layer, query, key, value, wanted).contiguous(), None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
