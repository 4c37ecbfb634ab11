"""From the sessions' shares of a pass to the tensors that the model is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from draftpool.tree import EMPTY_TREE, ROOT, DraftTree
from verifier_service.attention import PackedAttention, Segment
from verifier_service.kv_pool import KvPool, SlotArray
from verifier_service.session import Session


@dataclass(frozen=True)
class Chunk:
    """What a pass computes of one session: its next pending tokens, and after the last of them its tree."""

    session: Session
    num_committed: int
    is_last: bool

    @property
    def tree(self) -> DraftTree:
        """The tree that is in the pass."""
        return self.session.tree if self.is_last else EMPTY_TREE

    @property
    def num_tokens(self) -> int:
        return self.num_committed + self.tree.num_nodes

    @property
    def num_choices(self) -> int:
        """Rows whose logits are needed: the last committed token and the nodes."""
        return 1 + self.tree.num_nodes if self.is_last else 0

    @property
    def token_ids(self) -> list[int]:
        start = self.session.num_cached
        return [*self.session.token_ids[start : start + self.num_committed], *self.tree.token_ids]

    @property
    def positions(self) -> list[int]:
        start = self.session.num_cached
        last = start + self.num_committed - 1
        return [*range(start, last + 1), *(last + depth for depth in self.tree.depths)]

    @property
    def slots(self) -> SlotArray:
        """Of all that the chunk may see: what is cached, then its own tokens in order."""
        committed = self.session.slots[: self.session.num_cached + self.num_committed]
        return np.concatenate([committed, self.session.node_slots]) if self.is_last else committed


@dataclass(frozen=True)
class PackedPass:
    """The arguments of one forward pass over T tokens.

    Attributes:
        token_ids: (1, T) int64.
        positions: (1, T) int64.
        logit_rows: (R,) int64, the rows whose logits are needed.
        attention: the layout, for `draftpool_tree` attention.
    """

    token_ids: Tensor
    positions: Tensor
    logit_rows: Tensor
    attention: PackedAttention


def pack(chunks: Sequence[Chunk], pool: KvPool) -> PackedPass:
    """Lay the chunks one after the other in one row."""
    dtype, device = pool.keys[0].dtype, pool.keys[0].device
    stops = list(accumulate(chunk.num_tokens for chunk in chunks))
    slots = [chunk.slots for chunk in chunks]

    def tensor(values: Sequence[int] | SlotArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64).to(device)

    segments = []
    for chunk, chunk_slots, stop in zip(chunks, slots, stops, strict=True):
        mask = _additive_mask(chunk, len(chunk_slots), dtype)
        start = stop - chunk.num_tokens
        segments.append(Segment(start, stop, tensor(chunk_slots), None if mask is None else mask.to(device)))
    new_slots = np.concatenate([all_[-chunk.num_tokens :] for chunk, all_ in zip(chunks, slots, strict=True)])
    return PackedPass(
        token_ids=tensor([token_id for chunk in chunks for token_id in chunk.token_ids])[None],
        positions=tensor([position for chunk in chunks for position in chunk.positions])[None],
        logit_rows=tensor(
            [row for chunk, stop in zip(chunks, stops, strict=True) for row in range(stop - chunk.num_choices, stop)]
        ),
        attention=PackedAttention(pool, tensor(new_slots), tuple(segments)),
    )


def visibility(num_committed: int, tree: DraftTree) -> npt.NDArray[np.bool_]:
    """(n, n): which new token sees which; committed tokens all earlier ones, a node its ancestors, each itself."""
    num_tokens = num_committed + tree.num_nodes
    sees = np.zeros((num_tokens, num_tokens), dtype=np.bool_)
    sees[:num_committed, :num_committed] = np.tri(num_committed, dtype=np.bool_)
    for node, parent in enumerate(tree.parents):
        row = num_committed + node
        sees[row] = sees[num_committed - 1 if parent == ROOT else num_committed + parent]
        sees[row, row] = True
    return sees


def _additive_mask(chunk: Chunk, num_slots: int, dtype: torch.dtype) -> Tensor | None:
    """(n, L): 0 where a new token sees a key, else -inf; None for a single token, which sees everything."""
    num_tokens = chunk.num_tokens
    if num_tokens == 1:
        return None
    mask = torch.zeros(num_tokens, num_slots, dtype=dtype)
    sees = torch.from_numpy(visibility(chunk.num_committed, chunk.tree))
    mask[:, num_slots - num_tokens :].masked_fill_(~sees, -torch.inf)
    return mask
