"""Distributions over few tokens each, one for the root of a tree and one for every node. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from draftpool.errors import MalformedTree
from draftpool.tree import DraftTree
from draftpool.v1 import tree_pb2

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_MAX_ERROR = 1e-3
"""Of a sum of probabilities that came as float32."""


@dataclass(frozen=True, eq=False)
class SparseLaws:
    """S tokens and their probabilities in R rows: row 0 follows the last committed token, row i + 1 node i.

    Attributes:
        offsets: (R + 1,) where each row begins, and where the last one ends.
        token_ids: (S,), row after row.
        probs: (S,).
    """

    offsets: IntArray
    token_ids: IntArray
    probs: FloatArray

    @classmethod
    def empty(cls, num_rows: int) -> SparseLaws:
        return cls(np.zeros(num_rows + 1, np.int64), np.empty(0, np.int64), np.empty(0))

    @property
    def row_lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def row(self, row: int) -> slice:
        """Where its tokens are."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def place(self, row: int, token_id: int) -> int | None:
        """Where a row has a token, if it has it; an index into `token_ids`."""
        found = np.flatnonzero(self.token_ids[self.row(row)] == token_id)
        return int(self.offsets[row] + found[0]) if len(found) else None


def draft_laws(message: tree_pb2.SparseRows, tree: DraftTree, vocab_size: int) -> SparseLaws:
    """What a tree's nodes were drawn from, as a drafter says.

    Raises:
        MalformedTree: it cannot be so.
    """
    row_lengths = np.array(message.row_lengths, dtype=np.int64)
    token_ids = np.array(message.token_ids, dtype=np.int64)
    probs = np.array(message.probs, dtype=np.float64)
    if len(row_lengths) != tree.num_nodes + 1 or not row_lengths.sum() == len(token_ids) == len(probs):
        raise MalformedTree(
            f"a tree of {tree.num_nodes} nodes was drawn from {len(row_lengths)} rows of {row_lengths.sum()} tokens, "
            f"with {len(token_ids)} ids and {len(probs)} probabilities"
        )
    if max(token_ids, default=0) >= vocab_size:
        raise MalformedTree(f"drew from token {max(token_ids)}, which the target does not have")
    rows = np.repeat(np.arange(len(row_lengths)), row_lengths)
    keys = rows * vocab_size + token_ids
    if len(np.unique(keys)) != len(keys):
        raise MalformedTree("a row names a token twice that children were drawn from")
    if not np.isin((np.array(tree.parents) + 1) * vocab_size + tree.token_ids, keys).all():
        raise MalformedTree("a node is not among what its parent's children were drawn from")
    totals = np.bincount(rows, weights=probs, minlength=len(row_lengths))[row_lengths > 0]
    if not (np.all(probs >= 0) and np.all(np.abs(totals - 1) < _MAX_ERROR)):
        raise MalformedTree("the probabilities that children were drawn from do not add up to 1")
    return SparseLaws(np.concatenate([[0], np.cumsum(row_lengths)]), token_ids, probs)
