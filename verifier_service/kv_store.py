"""The memory of the KV cache: keys and values of all pages, allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier_service.transfer import to_device


@dataclass(frozen=True)
class LayerShape:
    """What one token leaves in one layer's cache, and where that is.

    Attributes:
        num_heads: key-value heads.
        key_dim: of one head.
        value_dim: of one head.
        dtype: of both.
        device: where the layer computes.
    """

    num_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def num_bytes(self) -> int:
        """Of one token in this layer."""
        return self.num_heads * (self.key_dim + self.value_dim) * self.dtype.itemsize


class KvStore:
    """Keys and values of S = num_pages * page_tokens slots in every layer. Who may use which: `PagePool`.

    Attributes:
        keys: a layer's keys, (num_heads, S, key_dim): gathering a session's pages makes each head's keys contiguous,
            which is what matrix products want.
        values: likewise, (num_heads, S, value_dim).
    """

    def __init__(self, layers: Sequence[LayerShape], num_pages: int, page_tokens: int) -> None:
        self.num_pages = num_pages
        self.page_tokens = page_tokens
        # Layers of one kind lie in one tensor, so that rows are moved in all of them at once.
        self._blocks: list[Tensor] = []
        self.keys: list[Tensor] = [torch.empty(0)] * len(layers)
        self.values: list[Tensor] = [torch.empty(0)] * len(layers)
        for kind in dict.fromkeys(layers):
            members = [index for index, layer in enumerate(layers) if layer == kind]
            for views, dim in ((self.keys, kind.key_dim), (self.values, kind.value_dim)):
                size = (len(members), kind.num_heads, num_pages * page_tokens, dim)
                # Not zeroed: pages are cleared when they are handed out, and untouched memory costs nothing on a CPU.
                block = torch.empty(size, dtype=kind.dtype, device=kind.device)
                self._blocks.append(block)
                for view, index in zip(block, members, strict=True):
                    views[index] = view
        self._devices = {block.device for block in self._blocks}

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys (num_heads, n, key_dim) and values (num_heads, n, value_dim) of n tokens in slots (n,)."""
        self.keys[layer].index_copy_(1, slots, keys)
        self.values[layer].index_copy_(1, slots, values)

    def gather(self, layer: int, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of keys (num_heads, n * P, key_dim) and values (num_heads, n * P, value_dim) of pages (n,)."""
        return self._gather(self.keys[layer], pages), self._gather(self.values[layer], pages)

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy slots to other slots in every layer, as if all at once."""
        if len(sources) > 0:
            on_device = {
                device: torch.split(to_device(torch.tensor([*sources, *targets]), device), len(sources))
                for device in self._devices
            }
            for block in self._blocks:
                source_index, target_index = on_device[block.device]
                block.index_copy_(2, target_index, block.index_select(2, source_index))

    def clear(self, pages: Sequence[int]) -> None:
        """Fill pages with zeros.

        What a page is handed out with is never seen, but it is multiplied by zero, which would keep an infinity or NaN.
        """
        if len(pages) > 0:
            on_device = {device: to_device(torch.tensor(list(pages)), device) for device in self._devices}
            for block in self._blocks:
                self._by_page(block).index_fill_(2, on_device[block.device], 0)

    def _gather(self, slots: Tensor, pages: Tensor) -> Tensor:
        num_heads, _, dim = slots.shape
        gathered = slots.view(num_heads, self.num_pages, -1).index_select(1, pages)
        return gathered.view(num_heads, -1, dim)

    def _by_page(self, block: Tensor) -> Tensor:
        return block.view(*block.shape[:2], self.num_pages, -1)


def tokens_for_bytes(layers: Sequence[LayerShape], num_bytes: int) -> int:
    """How many tokens' keys and values fit in so much memory."""
    return num_bytes // sum(layer.num_bytes for layer in layers)
