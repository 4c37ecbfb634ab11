"""Steps on copies: parents are gathered into a workspace, children scattered from it, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.mamba.slot_layout import StepViews
from drafter_service.mamba.slot_store import SlotStore
from drafter_service.mamba.stepper import MAX_ROWS
from drafter_service.mamba.weights import RecurrentWeights


@dataclass(frozen=True)
class _Workspace:
    """A step's buffers for n rows and their views, the same for every layer: what one leaves, the next finds cached.

    Attributes:
        stored: (n, numbers), what is read from the slots, in their dtype; the same memory as `parents` in float32.
        parents: (n, numbers) float32, of which `only_parent` is the first row.
        children: n times (numbers,) float32.
        views: of parents and children.
    """

    stored: Tensor
    parents: Tensor
    only_parent: Tensor
    children: tuple[Tensor, ...]
    views: StepViews


class GatheringStepper:
    """See `drafter_service.mamba.stepper.Stepper`."""

    def __init__(self, weights: RecurrentWeights, store: SlotStore) -> None:
        self._weights = weights
        self._store = store
        self._parents = torch.empty(MAX_ROWS, store.layout.num_numbers, device=store.device)
        self._children = torch.empty_like(self._parents)
        self._stored = self._parents if store.dtype == torch.float32 else self._parents.to(store.dtype)
        self._workspaces: dict[int, _Workspace] = {}

    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        return self._weights.head(self._weights.norm(self._hidden(token_ids, parent_slots, child_slots)))

    def feed(self, token_id: int, slot: int) -> None:
        self._hidden([token_id], [slot], [slot])

    def _hidden(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        """(n, d_model), what the head is to read."""
        norm, space = self._weights.norm, self._workspace(len(token_ids))
        parents, hidden = self._rows(parent_slots), self._embedded(token_ids)
        for layer, mixer in enumerate(self._weights.mixers):
            self._gather(layer, parents, space)
            hidden = mixer.step(hidden, norm(hidden), space.views)
            self._scatter(layer, child_slots, space)
        return hidden

    def _rows(self, slots: Sequence[int]) -> Tensor | int:
        """An index of slots; a single one needs no tensor, which is a good part of what a chain's step can save."""
        return slots[0] if len(slots) == 1 else torch.tensor(slots, device=self._store.device)

    def _embedded(self, token_ids: Sequence[int]) -> Tensor:
        """(n, d_model), of one token a view."""
        if len(token_ids) == 1:
            return self._weights.embedding.narrow(0, token_ids[0], 1)
        return F.embedding(torch.tensor(token_ids, device=self._store.device), self._weights.embedding)

    def _gather(self, layer: int, parents: Tensor | int, space: _Workspace) -> None:
        if isinstance(parents, int):
            space.only_parent.copy_(self._store.slots[layer][parents])
            return
        torch.index_select(self._store.layers[layer], 0, parents, out=space.stored)
        if space.stored is not space.parents:
            space.parents.copy_(space.stored)

    def _scatter(self, layer: int, child_slots: Sequence[int], space: _Workspace) -> None:
        slots = self._store.slots[layer]
        # On a CPU several times as fast as `index_copy_`.
        torch._foreach_copy_([slots[slot] for slot in child_slots], space.children)

    def _workspace(self, num_rows: int) -> _Workspace:
        if num_rows not in self._workspaces:
            parents, children = self._parents[:num_rows], self._children[:num_rows]
            stored = parents if self._stored is self._parents else self._stored[:num_rows]
            views = StepViews.of(self._store.layout, parents, children)
            self._workspaces[num_rows] = _Workspace(stored, parents, parents[0], children.unbind(0), views)
        return self._workspaces[num_rows]
