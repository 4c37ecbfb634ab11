"""Tree attention over the KV pool, as an attention function of transformers.

All new tokens of a pass, of all sessions, lie in one row: (1, T) token ids, no padding. A session's new tokens are
a contiguous *segment* of the row; each attends to the session's cached tokens and to those of its segment that a mask
lets it see: the earlier tokens of a prefill chunk, the ancestors of a tree node.

transformers hands the model's keyword arguments through to the attention function, which is how the layout of a
pass gets there. No mask function is registered for it: transformers then makes no mask of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from draftpool.errors import ModelNotServable
from verifier_service.kv_pool import KvPool

TREE_ATTENTION = "draftpool_tree"

_NOT_DONE_HERE = {
    "sliding_window": "a sliding window",
    "softcap": "a soft cap on attention scores",
    "s_aux": "attention sinks",
    "position_bias": "a position bias on attention scores",
    "head_mask": "a mask on heads",
    "cross_attention": "cross attention",
}
"""Options by which models ask an attention function for more than plain scaled dot products."""


class Attention(Protocol):
    """Computes the attention of every layer of one pass."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention of one layer.

        Args:
            query: (1, num_heads, T, key_dim) of the new tokens.
            key: (1, num_kv_heads, T, key_dim).
            value: (1, num_kv_heads, T, value_dim).

        Returns:
            (1, T, num_heads, value_dim).
        """


@dataclass(frozen=True)
class Segment:
    """The new tokens of one session.

    Attributes:
        start: first row.
        stop: after the last row; n = stop - start.
        slots: (L,) of all tokens that the segment may see, the new ones last.
        mask: (n, L) in the model's type, 0 where a row sees a key, else -inf; None where all is seen.
    """

    start: int
    stop: int
    slots: Tensor
    mask: Tensor | None
    _grouped_masks: dict[int, Tensor] = field(default_factory=dict)

    def grouped_mask(self, num_groups: int) -> Tensor | None:
        """(num_groups * n, L): the mask once for each query head of a key-value head; made once a pass."""
        if self.mask is None or num_groups == 1:
            return self.mask
        if num_groups not in self._grouped_masks:
            self._grouped_masks[num_groups] = self.mask.repeat(num_groups, 1)
        return self._grouped_masks[num_groups]


@dataclass(frozen=True)
class PackedAttention:
    """The layout of one pass.

    Attributes:
        new_slots: (T,) where the new tokens' keys and values go.
        segments: in row order, all rows covered.
    """

    pool: KvPool
    new_slots: Tensor
    segments: tuple[Segment, ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        self.pool.write(layer, self.new_slots, key[0], value[0])
        outputs = [self._attend_segment(segment, layer, query[0], scaling) for segment in self.segments]
        return torch.cat(outputs)[None]

    def _attend_segment(self, segment: Segment, layer: int, query: Tensor, scaling: float) -> Tensor:
        """(n, num_heads, value_dim) of one segment, from the queries (num_heads, T, key_dim) of all."""
        keys, values = self.pool.read(layer, segment.slots)
        num_heads, num_kv_heads = query.shape[0], keys.shape[0]
        # The query heads that share a key-value head become rows of it: keys and values are not repeated.
        grouped = query[:, segment.start : segment.stop].reshape(num_kv_heads, -1, keys.shape[2])
        mask = segment.grouped_mask(num_heads // num_kv_heads)
        attend = attend_on_cpu if query.device.type == "cpu" else attend_plainly
        output = attend(grouped, keys, values, mask, scaling)
        return output.view(num_heads, segment.stop - segment.start, -1).transpose(0, 1)


def attend_plainly(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """softmax(query keys^T scaling + mask) values, by torch's own kernel.

    Args:
        query: (heads, rows, key_dim).
        keys: (heads, L, key_dim).
        values: (heads, L, value_dim).
        mask: (rows, L) or None.

    Returns:
        (heads, rows, value_dim).
    """
    return F.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=mask, scale=scaling)[0]


def attend_on_cpu(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """The same as `attend_plainly`, by products in the model's own type.

    In bfloat16 these give a row the same bits whatever rows and keys stand around it, as oneDNN's matrix products
    in the linear layers do, so a token is chosen alike in a tree and alone. torch's CPU kernel, and products in
    float32, round differently with the number of rows: with them 6 of 12 texts of 150 tokens of a small Llama came
    out otherwise with trees than without; with these none. They are also faster from about 10 rows on (46 rows,
    2 x 2 heads of 64, 200 cached tokens: 92 us instead of 165), and slower below (1 row: 33 us instead of 15).
    """
    scores = torch.bmm(query * scaling, keys.transpose(1, 2))
    if mask is not None:
        scores += mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    return torch.bmm(weights, values)


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
    attention: Attention | None = options.get("packed")
    if attention is None or attention_mask is not None:
        raise ModelNotServable("the model does not hand its keyword arguments through to its attention layers")
    layer: int = module.layer_idx  # type: ignore[assignment]
    return attention.attend(layer, query, key, value, options.get("scaling") or query.shape[-1] ** -0.5), None


AttentionInterface.register(TREE_ATTENTION, tree_attention)
