"""The tensors behind the slots: every layer's numbers of every slot.

Who holds which slot is `drafter_service.state_pool`'s to know.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drafter_service.mamba.slot_layout import SlotLayout


class SlotStore:
    """Slots of a fixed number of bytes, whatever the length of the text that they remember.

    Args:
        dtype: that slots are kept in; whoever computes does it in float32.

    Attributes:
        layers: for each layer (num_slots, numbers).
        slots: the same as views: for each layer and slot (numbers,).
    """

    def __init__(
        self, layout: SlotLayout, *, num_layers: int, num_slots: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.layout = layout
        # Left unwritten: pages that no session has needed yet take no memory.
        shape = (num_slots, layout.num_numbers)
        self.layers = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.slots = [layer.unbind(0) for layer in self.layers]

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].device

    def read(self, layer: int, slot: int) -> Tensor:
        """(1, numbers) float32; the slot itself where that is its dtype."""
        return self.slots[layer][slot].float()[None]

    def write(self, layer: int, slot: int, row: Tensor) -> None:
        """Set a slot to (1, numbers)."""
        self.slots[layer][slot].copy_(row[0])
