"""Tree attention in torch operators: the one that CPUs use, and the reference for kernels.

Sessions of similar size are attended together, as one batch of padded matrix products; how much padding that may
cost is bounded. A session alone is not padded at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verifier_service.attention import AttentionOptions
from verifier_service.kv_store import KvStore
from verifier_service.packing import IntArray, Segment

_MAX_PADDING = 1.5
"""Padded scores over real ones, in a group."""

_NEGLIGIBLE_SCORES = 4096
"""Padding up to so many scores costs less than the operators that one more group needs."""


def group_segments(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Put segments of similar size together. Pure.

    Returns:
        Groups that cover all segments. In each, B * max rows * max keys is at most `_MAX_PADDING` times the sum of
        rows * keys, or the padding is negligible.
    """
    groups: list[list[Segment]] = []
    num_scores = 0
    for segment in sorted(segments, key=lambda segment: (segment.num_rows, segment.num_keys, segment.start)):
        own = segment.num_rows * segment.num_keys
        if groups:
            members = [*groups[-1], segment]
            padded = len(members) * segment.num_rows * max(member.num_keys for member in members)
            if padded <= max(_MAX_PADDING * (num_scores + own), num_scores + own + _NEGLIGIBLE_SCORES):
                groups[-1].append(segment)
                num_scores += own
                continue
        groups.append([segment])
        num_scores = own
    return groups


@dataclass(frozen=True)
class GroupView:
    """A group of B segments, padded to R rows and K keys, as a layer with a certain window sees it.

    Attributes:
        rows: the B * R rows of the pass; padding repeats a segment's first row.
        pages: (B * n,) pages in which the K = n * P keys lie; of a segment alone, K ends with its last key.
        mask: (B, 1, R, K) in the layer's type, 0 where a row sees a key, else -inf; None where all is seen.
        real: (T',) which of the B * R rows are no padding; None: all.
    """

    num_segments: int
    num_rows: int
    num_keys: int
    rows: slice | Tensor
    pages: Tensor
    mask: Tensor | None
    real: Tensor | None


class GroupedAttention:
    """The attention of one pass; see `verifier_service.attention.Attention`."""

    def __init__(self, store: KvStore, segments: Sequence[Segment]) -> None:
        self._store = store
        self._groups = group_segments(segments)
        self._new_slots = np.concatenate([segment.slots(store.page_tokens) for segment in segments])
        self._slots: dict[torch.device, Tensor] = {}
        self._views: dict[tuple[int | None, torch.dtype, torch.device], list[GroupView]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        self._store.write(layer, self._slots_on(query.device), key[0], value[0])
        views = self._views_for(options.window, query)
        outputs = [self._attend_group(view, layer, query[0], options) for view in views]
        if len(views) == 1 and isinstance(views[0].rows, slice):
            return outputs[0][None]
        output = outputs[0].new_empty(query.shape[2], query.shape[1], value.shape[3])
        for view, rows in zip(views, outputs, strict=True):
            if isinstance(view.rows, slice):
                output[view.rows] = rows
            elif view.real is None:
                output.index_copy_(0, view.rows, rows)
            else:
                output.index_copy_(0, view.rows[view.real], rows[view.real])
        return output[None]

    def _attend_group(self, view: GroupView, layer: int, query: Tensor, options: AttentionOptions) -> Tensor:
        """(B * R, num_heads, value_dim) of one group, from the queries (num_heads, T, key_dim) of all."""
        keys, values = self._store.gather(layer, view.pages)
        num_heads, num_kv_heads = query.shape[0], keys.shape[0]
        batch = num_kv_heads * view.num_segments
        num_groups = num_heads // num_kv_heads
        # The query heads that share a key-value head become rows of it: keys and values are not repeated.
        rows = query[:, view.rows] if isinstance(view.rows, slice) else query.index_select(1, view.rows)
        rows = rows.reshape(num_kv_heads, num_groups, view.num_segments, view.num_rows, -1)
        rows = rows.transpose(1, 2).reshape(batch, num_groups * view.num_rows, -1)
        output = attend_plainly(
            rows,
            keys.view(batch, -1, keys.shape[2])[:, : view.num_keys],
            values.view(batch, -1, values.shape[2])[:, : view.num_keys],
            view.mask,
            options,
            num_groups=num_groups,
        )
        output = output.view(num_kv_heads, view.num_segments, num_groups, view.num_rows, -1)
        return output.permute(1, 3, 0, 2, 4).reshape(view.num_segments * view.num_rows, num_heads, -1)

    def _slots_on(self, device: torch.device) -> Tensor:
        if device not in self._slots:
            self._slots[device] = torch.from_numpy(self._new_slots).to(device)
        return self._slots[device]

    def _views_for(self, window: int | None, query: Tensor) -> list[GroupView]:
        """Made once a pass for each kind of layer."""
        kind = (window, query.dtype, query.device)
        if kind not in self._views:
            page_tokens = self._store.page_tokens
            self._views[kind] = [_view(group, window, page_tokens, query) for group in self._groups]
        return self._views[kind]


def attend_plainly(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, options: AttentionOptions, *, num_groups: int = 1
) -> Tensor:
    """softmax(query keys^T scaling + mask) values, by products in the model's own type.

    In bfloat16 these give a row the same bits whatever rows and keys stand around it, as oneDNN's matrix products
    in the linear layers do (on CPUs that compute in bfloat16), so a token is chosen alike in a tree and alone. torch's
    fused CPU kernel, and products in float32, round differently with the number of rows: with them 6 of 12 texts
    of 150 tokens of a small Llama came out otherwise with trees than without; with these none.

    Args:
        query: (H * B, G * rows, key_dim) for H key-value heads, each shared by G query heads, and B segments.
        keys: (H * B, K, key_dim).
        values: (H * B, K, value_dim).
        mask: (B, 1, rows, K) or None.

    Returns:
        (H * B, G * rows, value_dim).
    """
    scores = torch.bmm(query * options.scaling, keys.transpose(1, 2))
    if options.softcap is not None:
        scores = (scores / options.softcap).tanh_() * options.softcap
    num_keys = scores.shape[2]
    if mask is not None:
        by_segment = scores.view(-1, mask.shape[0], num_groups, mask.shape[2], num_keys)
        by_segment += mask
    if options.sinks is not None:
        scores = torch.cat([scores, _sink_scores(scores, options.sinks, mask, num_groups)], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
    return torch.bmm(weights[..., :num_keys], values)


def _sink_scores(scores: Tensor, sinks: Tensor, mask: Tensor | None, num_groups: int) -> Tensor:
    """(H * B, G * rows, 1): the sink of each row's head."""
    num_segments = 1 if mask is None else mask.shape[0]
    num_kv_heads, num_rows = scores.shape[0] // num_segments, scores.shape[1] // num_groups
    by_head = sinks.to(scores.dtype).view(num_kv_heads, 1, num_groups, 1)
    return by_head.expand(num_kv_heads, num_segments, num_groups, num_rows).reshape(*scores.shape[:2], 1)


def _view(group: Sequence[Segment], window: int | None, page_tokens: int, query: Tensor) -> GroupView:
    num_rows = max(segment.num_rows for segment in group)
    first_pages = [_first_page(segment, window, page_tokens) for segment in group]
    num_pages = max(len(segment.pages) - first for segment, first in zip(group, first_pages, strict=True))
    is_alone = len(group) == 1
    num_keys = group[0].num_keys - first_pages[0] * page_tokens if is_alone else num_pages * page_tokens
    seen = np.zeros((len(group), 1, num_rows, num_keys), dtype=np.bool_)
    for index, (segment, first) in enumerate(zip(group, first_pages, strict=True)):
        own = _seen(segment, window)[:, first * page_tokens :]
        seen[index, 0, : own.shape[0], : own.shape[1]] = own
        seen[index, 0, own.shape[0] :, 0] = True  # a padding row sees something, for a softmax of nothing is NaN
    return GroupView(
        num_segments=len(group),
        num_rows=num_rows,
        num_keys=num_keys,
        rows=_rows(group, num_rows, query.device),
        pages=_padded_pages(group, first_pages, num_pages).to(query.device),
        mask=None if seen.all() else _additive(seen, query.dtype).to(query.device),
        real=_real_rows(group, num_rows, query.device),
    )


def _first_page(segment: Segment, window: int | None, page_tokens: int) -> int:
    """The first page that any of the segment's rows can see into."""
    return 0 if window is None else max(0, segment.num_cached - window + 1) // page_tokens


def _seen(segment: Segment, window: int | None) -> npt.NDArray[np.bool_]:
    """(n, L): which key each new token sees."""
    seen = np.ones((segment.num_rows, segment.num_keys), dtype=np.bool_)
    seen[:, segment.num_cached :] = segment.sees()
    if window is not None:
        rows = segment.positions()
        keys = np.concatenate([np.arange(segment.num_cached), rows])
        seen &= rows[:, None] - keys[None, :] < window
    return seen


def _rows(group: Sequence[Segment], num_rows: int, device: torch.device) -> slice | Tensor:
    if len(group) == 1:
        return slice(group[0].start, group[0].stop)
    rows = np.array([segment.start for segment in group])[:, None] + np.arange(num_rows)[None, :]
    starts_beyond = rows >= np.array([segment.stop for segment in group])[:, None]
    rows[starts_beyond] = np.broadcast_to(rows[:, :1], rows.shape)[starts_beyond]
    return torch.from_numpy(rows.reshape(-1)).to(device)


def _real_rows(group: Sequence[Segment], num_rows: int, device: torch.device) -> Tensor | None:
    is_real = np.arange(num_rows)[None, :] < np.array([segment.num_rows for segment in group])[:, None]
    return None if is_real.all() else torch.from_numpy(np.flatnonzero(is_real)).to(device)


def _padded_pages(group: Sequence[Segment], first_pages: Sequence[int], num_pages: int) -> Tensor:
    """(B * n,); padding repeats a segment's own last page, which nothing of another session can spoil."""
    pages: IntArray = np.empty((len(group), num_pages), dtype=np.int64)
    for row, segment, first in zip(pages, group, first_pages, strict=True):
        own = segment.pages[first:]
        row[: len(own)] = own
        row[len(own) :] = own[-1]
    return torch.from_numpy(pages.reshape(-1))


def _additive(seen: npt.NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~torch.from_numpy(seen), -torch.inf)
