"""The tensors behind the slots: every layer's numbers of every slot, and the buffers that a step works in.

Who holds which slot is `drafter_service.state_pool`'s to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drafter_service.slot_layout import SlotLayout, StepViews


@dataclass(frozen=True)
class _Workspace:
    """A step's buffers for n rows and their views, the same for every layer: what one leaves, the next finds cached.

    Attributes:
        stored: (n, numbers), what is read from the slots, in their dtype; the same memory as `parents` in float32.
        parents: (n, numbers) float32.
        children: n times (numbers,) float32.
        views: of parents and children.
    """

    stored: Tensor
    parents: Tensor
    children: tuple[Tensor, ...]
    views: StepViews


class SlotStore:
    """Slots of a fixed number of bytes, whatever the length of the text that they remember.

    Args:
        dtype: that slots are kept in; steps compute in float32.
        max_rows: that a step may have.
    """

    def __init__(
        self,
        layout: SlotLayout,
        *,
        num_layers: int,
        num_slots: int,
        max_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._layout = layout
        # Left unwritten: pages that no session has needed yet take no memory.
        shape = (num_slots, layout.num_numbers)
        self._layers = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._slots = [layer.unbind(0) for layer in self._layers]
        self._parents = torch.empty(max_rows, layout.num_numbers, device=device)
        self._children = torch.empty_like(self._parents)
        self._stored = self._parents if dtype == torch.float32 else self._parents.to(dtype)
        self._workspaces: dict[int, _Workspace] = {}

    @property
    def num_slots(self) -> int:
        return len(self._layers[0])

    def read(self, layer: int, slot: int) -> Tensor:
        """(1, numbers) float32; the slot itself where that is its dtype."""
        return self._slots[layer][slot].float()[None]

    def write(self, layer: int, slot: int, row: Tensor) -> None:
        """Set a slot to (1, numbers)."""
        self._slots[layer][slot].copy_(row[0])

    def gather(self, layer: int, parent_slots: Tensor) -> StepViews:
        """Fetch n parents; the children are to be written to the views returned.

        Args:
            parent_slots: (n,) int64.
        """
        space = self._workspace(len(parent_slots))
        torch.index_select(self._layers[layer], 0, parent_slots, out=space.stored)
        if space.stored is not space.parents:
            space.parents.copy_(space.stored)
        return space.views

    def scatter(self, layer: int, child_slots: Sequence[int]) -> None:
        """Keep the n children that the views of the last `gather` have been given."""
        slots, space = self._slots[layer], self._workspace(len(child_slots))
        # On a CPU several times as fast as `index_copy_`.
        torch._foreach_copy_([slots[slot] for slot in child_slots], space.children)

    def _workspace(self, num_rows: int) -> _Workspace:
        if num_rows not in self._workspaces:
            parents, children = self._parents[:num_rows], self._children[:num_rows]
            stored = parents if self._stored is self._parents else self._stored[:num_rows]
            views = StepViews.of(self._layout, parents, children)
            self._workspaces[num_rows] = _Workspace(stored, parents, children.unbind(0), views)
        return self._workspaces[num_rows]
