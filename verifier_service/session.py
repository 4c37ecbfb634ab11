"""What one stream owns: its tokens, their slots in the KV cache, its last tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.kv_pool import NO_SLOTS, KvPool, SlotArray


class Session:
    """The verifier's side of one request.

    Attributes:
        params: how its logits become tokens.
        noise: of its seed; None exactly when it is greedy.
        token_ids: all committed tokens.
        slots: of the committed tokens, in order.
        num_cached: how many of them are computed; at least the last one is not when a request begins.
        tree: the last one asked for; computed when every committed token is.
        node_slots: of its nodes.
    """

    def __init__(self, params: SamplingParams, vocab_size: int) -> None:
        self.params = params
        self.noise = None if params.is_greedy else GumbelRows(params.seed, vocab_size)
        self.token_ids: list[int] = []
        self.slots: SlotArray = NO_SLOTS
        self.num_cached = 0
        self.tree: DraftTree = EMPTY_TREE
        self.node_slots: SlotArray = NO_SLOTS

    @property
    def num_pending(self) -> int:
        """Committed tokens still to be computed."""
        return len(self.token_ids) - self.num_cached

    @property
    def held_slots(self) -> list[int]:
        return [*self.slots.tolist(), *self.node_slots.tolist()]

    def advance(self, committed_token_ids: Sequence[int], tree: DraftTree, pool: KvPool) -> None:
        """Commit tokens, keep what the last tree had computed of them, and take slots for the rest and a new tree.

        Tokens that do not follow the last tree are fine. The last committed token is always computed
        anew, for its logits are what the caller wants.

        Args:
            committed_token_ids: at least one.

        Raises:
            NoCapacity: too few slots are free. The session has then followed its last tree, and holds nothing else.
        """
        num_kept = self._follow_tree(committed_token_ids[:-1], pool)
        fresh = committed_token_ids[num_kept:]
        slots = pool.allocate(len(fresh) + tree.num_nodes)
        self.token_ids += fresh
        self.slots = np.concatenate([self.slots, slots[: len(fresh)]])
        self.tree = tree
        self.node_slots = slots[len(fresh) :]

    def close(self, pool: KvPool) -> None:
        """Give every slot back; safe to repeat."""
        pool.free(self.slots)
        pool.free(self.node_slots)
        self.slots = self.node_slots = NO_SLOTS
        self.token_ids = []
        self.num_cached = 0
        self.tree = EMPTY_TREE

    def _follow_tree(self, token_ids: Sequence[int], pool: KvPool) -> int:
        """Make the nodes along `token_ids` the session's own, free the others, and say how many were kept."""
        is_computed = self.num_pending == 0
        kept = np.array(self.tree.walk(token_ids) if is_computed else (), dtype=np.int64)
        pool.free(np.delete(self.node_slots, kept))
        self.slots = np.concatenate([self.slots, self.node_slots[kept]])
        self.token_ids += token_ids[: len(kept)]
        self.num_cached += len(kept)
        self.tree, self.node_slots = EMPTY_TREE, NO_SLOTS
        return len(kept)
