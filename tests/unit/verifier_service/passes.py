"""Random passes over random pages, for tests of attention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from verifier_service.kv_store import KvStore, LayerShape
from verifier_service.packing import PassLayout, Segment


@st.composite
def passes(draw, max_segments: int = 5, max_cached: int = 20, max_new: int = 7, max_nodes: int = 9):
    """Segments of any size, their pages anywhere in the store."""
    page_tokens = draw(st.integers(1, 6))
    segments, start, num_pages = [], 0, 0
    for _ in range(draw(st.integers(1, max_segments))):
        num_cached, num_committed = draw(st.integers(0, max_cached)), draw(st.integers(1, max_new))
        num_nodes = draw(st.integers(0, max_nodes))
        parents = tuple(draw(st.integers(-1, node - 1)) for node in range(num_nodes))
        stop = start + num_committed + num_nodes
        own = -(-(num_cached + stop - start) // page_tokens)
        pages = tuple(range(num_pages, num_pages + own))
        segments.append(Segment(start, stop, num_cached, num_committed, parents, pages))
        start, num_pages = stop, num_pages + own
    order = draw(st.permutations(range(num_pages)))
    dealt = [replace(segment, pages=tuple(order[page] for page in segment.pages)) for segment in segments]
    return dealt, num_pages, page_tokens


def layout_of(segments: list[Segment]) -> PassLayout:
    """A pass of these segments that chooses in every row."""
    num_rows = segments[-1].stop
    positions = np.concatenate([segment.positions() for segment in segments])
    return PassLayout(np.zeros(num_rows, dtype=np.int64), positions, np.arange(num_rows), tuple(segments))


def filled_store(
    shape: LayerShape, segments: list[Segment], num_pages: int, page_tokens: int, *, unwritten: float = 0.0
) -> KvStore:
    """A store with random keys and values of the segments' cached tokens, and `unwritten` everywhere else."""
    store = KvStore([shape], num_pages, page_tokens)
    store.keys[0].fill_(unwritten)
    store.values[0].fill_(unwritten)
    for segment in segments:
        index = np.arange(segment.num_cached)
        slots = torch.from_numpy(np.array(segment.pages)[index // page_tokens] * page_tokens + index % page_tokens)
        store.write(0, slots.to(shape.device), *new_keys_and_values(shape, segment.num_cached))
    return store


def new_keys_and_values(shape: LayerShape, num_rows: int) -> tuple[Tensor, Tensor]:
    """(num_heads, num_rows, key_dim) and (num_heads, num_rows, value_dim)."""
    options = {"dtype": shape.dtype, "device": shape.device}
    keys = torch.randn(shape.num_heads, num_rows, shape.key_dim, **options)
    return keys, torch.randn(shape.num_heads, num_rows, shape.value_dim, **options)
