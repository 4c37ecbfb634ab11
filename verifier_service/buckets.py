"""The sizes of recorded passes, and which of them a pass is computed in. Pure.

A CUDA graph replays launches of fixed sizes, so passes are padded to one of a few *buckets*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from verifier_service.packing import IntArray, PassLayout, Segment
from verifier_service.pass_tensors import PassShape, num_words_for

_ROWS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
"""No pass is padded by more than half of itself, none of more than 16 rows by more than a third."""

_SESSIONS = (1, 8)
"""Besides the most that there may be. They decide how a segment is cut into tiles, and nothing else."""

_MAX_UNASKED_ROWS = 64
"""A recorded pass computes the logits of all its rows, which prefill does not want."""


@dataclass(frozen=True, order=True)
class Bucket:
    """Passes of at most so many rows, of at most so many sessions."""

    num_rows: int
    num_sessions: int

    def holds(self, layout: PassLayout) -> bool:
        return len(layout.token_ids) <= self.num_rows and len(layout.segments) <= self.num_sessions

    def shape(self, *, max_keys: int, max_tree_nodes: int, page_tokens: int) -> PassShape:
        """Of a pass padded to this bucket; the padding may be one more segment."""
        num_segments = self.num_sessions + 1
        return PassShape(
            num_rows=self.num_rows,
            num_segments=num_segments,
            num_logit_rows=self.num_rows,
            num_words=max(1, num_words_for(max_tree_nodes)),
            num_pages=num_segments * -(-max_keys // page_tokens),
            max_keys=max_keys,
            typical_rows=-(-self.num_rows // self.num_sessions),
        )


def default_buckets(*, max_sessions: int, max_pass_tokens: int) -> list[Bucket]:
    """What is recorded at start."""
    sessions = {min(count, max_sessions) for count in (*_SESSIONS, max_sessions)}
    return [
        Bucket(num_rows, num_sessions)
        for num_rows in _ROWS
        if num_rows <= max_pass_tokens
        for num_sessions in sorted({min(count, num_rows) for count in sessions})
    ]


def choose_bucket(buckets: Sequence[Bucket], layout: PassLayout) -> Bucket | None:
    """The one with the least padding; None where a pass had better be computed as it is."""
    if len(layout.token_ids) - len(layout.logit_rows) > _MAX_UNASKED_ROWS:
        return None
    return min((bucket for bucket in buckets if bucket.holds(layout)), default=None)


def padded(layout: PassLayout, bucket: Bucket, *, scratch_page: int, page_tokens: int) -> PassLayout:
    """The same pass with as many rows and logit rows as the bucket.

    The padding is a text of its own, whose keys and values all go to one page that nobody else reads. Its rows come
    last, and so do the logits that nobody asked for.
    """
    num_rows, num_missing = len(layout.token_ids), bucket.num_rows - len(layout.token_ids)
    segments = layout.segments
    if num_missing:
        pages = (scratch_page,) * -(-num_missing // page_tokens)
        segments = (*segments, Segment(num_rows, bucket.num_rows, 0, num_missing, (), pages))
    return replace(
        layout,
        token_ids=_with_zeros(layout.token_ids, num_missing),
        positions=_with_zeros(layout.positions, num_missing),
        logit_rows=_with_zeros(layout.logit_rows, bucket.num_rows - len(layout.logit_rows)),
        segments=segments,
    )


def _with_zeros(numbers: IntArray, num_more: int) -> IntArray:
    return np.concatenate([numbers, np.zeros(num_more, dtype=np.int64)])
