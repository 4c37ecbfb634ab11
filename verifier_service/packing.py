"""From the sessions' shares of a pass to one row of tokens. Pure numpy: what a pass needs, whoever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from draftpool.tree import EMPTY_TREE, ROOT, DraftTree
from verifier_service.session import Session

IntArray = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class Segment:
    """The new tokens of one session, contiguous in the row: committed tokens, then the nodes of a tree.

    Each sees the cached tokens, the committed ones see the earlier ones, a node sees its ancestors and all committed
    tokens.

    Attributes:
        start: first row.
        stop: after the last row; n = stop - start.
        num_cached: tokens that are in the cache already.
        num_committed: committed tokens among the new ones.
        parents: of the nodes.
        pages: that hold the cached and the new tokens, in order.
    """

    start: int
    stop: int
    num_cached: int
    num_committed: int
    parents: tuple[int, ...]
    pages: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        """L, cached and new."""
        return self.num_cached + self.num_rows

    def sees(self) -> npt.NDArray[np.bool_]:
        """(n, n): which new token sees which."""
        sees = np.zeros((self.num_rows, self.num_rows), dtype=np.bool_)
        sees[: self.num_committed, : self.num_committed] = np.tri(self.num_committed, dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            row = self.num_committed + node
            sees[row] = sees[self.num_committed - 1 if parent == ROOT else self.num_committed + parent]
            sees[row, row] = True
        return sees

    def positions(self) -> IntArray:
        """(n,) of the new tokens; a node stands as deep behind the last committed token as it is in the tree."""
        positions = list(range(self.num_cached, self.num_cached + self.num_committed))
        for parent in self.parents:
            positions.append(1 + positions[self.num_committed - 1 if parent == ROOT else self.num_committed + parent])
        return np.array(positions, dtype=np.int64)

    def slots(self, page_tokens: int) -> IntArray:
        """(n,) where the new tokens' keys and values go."""
        index = np.arange(self.num_cached, self.num_keys)
        return np.array(self.pages, dtype=np.int64)[index // page_tokens] * page_tokens + index % page_tokens


@dataclass(frozen=True)
class PassLayout:
    """One forward pass over T tokens: all that those who compute it have to know.

    Attributes:
        token_ids: (T,).
        positions: (T,).
        logit_rows: (R,) the rows whose logits are needed.
        segments: in row order, all rows covered.
        moved: source slots and target slots, copied before the pass: accepted nodes on their way to their places.
        cleared: pages to be cleared after that and before the pass.
    """

    token_ids: IntArray
    positions: IntArray
    logit_rows: IntArray
    segments: tuple[Segment, ...]
    moved: tuple[Sequence[int], Sequence[int]] = ((), ())
    cleared: Sequence[int] = ()


def pack(
    chunks: Sequence[Chunk],
    *,
    moved: tuple[Sequence[int], Sequence[int]] = ((), ()),
    cleared: Sequence[int] = (),
) -> PassLayout:
    """Lay the chunks one after the other in one row."""
    stops = list(accumulate(chunk.num_tokens for chunk in chunks))
    segments = tuple(_segment(chunk, stop) for chunk, stop in zip(chunks, stops, strict=True))
    choices = [np.arange(stop - chunk.num_choices, stop) for chunk, stop in zip(chunks, stops, strict=True)]
    return PassLayout(
        token_ids=np.array([token_id for chunk in chunks for token_id in chunk.token_ids], dtype=np.int64),
        positions=np.concatenate([segment.positions() for segment in segments]),
        logit_rows=np.concatenate(choices),
        segments=segments,
        moved=moved,
        cleared=cleared,
    )


def _segment(chunk: Chunk, stop: int) -> Segment:
    session = chunk.session
    num_keys = session.num_cached + chunk.num_tokens
    return Segment(
        start=stop - chunk.num_tokens,
        stop=stop,
        num_cached=session.num_cached,
        num_committed=chunk.num_committed,
        parents=chunk.tree.parents,
        pages=tuple(session.pages[: session.num_pages_for(num_keys)]),
    )
