"""Attention over block tables in torch operators: the plain twin of the Triton kernel, from the same tensors.

It gathers every row's keys, so it is for tests and comparisons. Its operators depend on the pass's shape alone and read
nothing back, so it may be recorded in a CUDA graph as the kernel may.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verifier_service.attention import AttentionOptions
from verifier_service.kv_store import KvStore
from verifier_service.pass_tensors import WORD_BITS, PassTensors


class PagedAttention:
    """The attention of one pass; see `verifier_service.attention.Attention`."""

    def __init__(self, store: KvStore, tensors: PassTensors) -> None:
        self._store = store
        self._tensors = tensors

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        tensors = self._tensors.on(query.device)
        self._store.write(layer, tensors.new_slots, key[0], value[0])
        segments = segment_of_rows(tensors)
        slots = _slots(tensors, segments, self._store.page_tokens)
        seen = seen_keys(tensors, segments, options.window)
        num_kv_heads, num_rows = key.shape[1], query.shape[2]
        # (H, T, K, dim) of each row's own keys and values.
        keys = self._store.keys[layer].index_select(1, slots.view(-1)).view(num_kv_heads, *slots.shape, -1).float()
        values = self._store.values[layer].index_select(1, slots.view(-1)).view(num_kv_heads, *slots.shape, -1).float()
        values = values.masked_fill(~seen[..., None], 0)  # a weight of zero would keep an infinity or NaN
        rows = query[0].view(num_kv_heads, -1, num_rows, query.shape[3]).float()
        scores = torch.einsum("hgtd,htkd->hgtk", rows, keys) * options.scaling
        if options.softcap is not None:
            scores = (scores / options.softcap).tanh() * options.softcap
        scores = scores.masked_fill(~seen, -torch.inf)
        if options.sinks is not None:
            sinks = options.sinks.float().view(num_kv_heads, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, sinks], dim=-1)
        weights = scores.softmax(dim=-1)[..., : slots.shape[1]]
        output = torch.einsum("hgtk,htkd->thgd", weights, values)
        return output.reshape(1, num_rows, query.shape[1], -1).to(query.dtype)


def segment_of_rows(tensors: PassTensors) -> Tensor:
    """(T,) int64: which segment a row is of."""
    rows = torch.arange(tensors.shape.num_rows, dtype=torch.int32, device=tensors.starts.device)
    return torch.searchsorted(tensors.starts, rows, right=True) - 1


def seen_keys(tensors: PassTensors, segments: Tensor, window: int | None) -> Tensor:
    """(T, K) bool, K = max_keys: whether a row sees its segment's key."""
    keys = torch.arange(tensors.shape.max_keys, device=segments.device)[None, :]
    rows = torch.arange(len(segments), device=segments.device)
    index = rows - tensors.starts[segments]
    num_cached, num_committed = tensors.num_cached[segments], tensors.num_committed[segments]
    first_node = (num_cached + num_committed)[:, None]
    is_seen = keys < torch.minimum(num_cached + index + 1, num_cached + num_committed)[:, None]
    nodes = keys - first_node
    words = tensors.ancestors.gather(1, (nodes // WORD_BITS).clamp(0, tensors.shape.num_words - 1))
    is_seen |= (
        (nodes >= 0) & (nodes < WORD_BITS * tensors.shape.num_words) & ((words >> (nodes % WORD_BITS)) & 1).bool()
    )
    if window is not None:
        new = (tensors.starts[segments][:, None] + keys - num_cached[:, None]).clamp(0, len(segments) - 1)
        key_positions = torch.where(nodes < 0, keys, tensors.positions[new])
        is_seen &= tensors.positions[:, None] - key_positions < window
    return is_seen


def _slots(tensors: PassTensors, segments: Tensor, page_tokens: int) -> Tensor:
    """(T, K) int64: where a row's keys lie; any slot where its segment has none."""
    keys = torch.arange(tensors.shape.max_keys, device=segments.device)[None, :]
    index = tensors.first_pages[segments][:, None] + keys // page_tokens
    num_keys = tensors.num_cached[segments] + tensors.starts[segments + 1] - tensors.starts[segments]
    pages = tensors.pages[torch.where(keys < num_keys[:, None], index, 0)].long()
    return pages * page_tokens + keys % page_tokens
