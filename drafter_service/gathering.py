"""Steps on copies: parents are gathered into a workspace, children scattered from it, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.slot_layout import StepViews
from drafter_service.slot_store import SlotStore
from drafter_service.stepper import MAX_ROWS
from drafter_service.weights import RecurrentWeights


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


class GatheringStepper:
    """See `drafter_service.stepper.Stepper`."""

    def __init__(self, weights: RecurrentWeights, store: SlotStore) -> None:
        self._weights = weights
        self._store = store
        self._parents = torch.empty(MAX_ROWS, store.layout.num_numbers, device=store.device)
        self._children = torch.empty_like(self._parents)
        self._stored = self._parents if store.dtype == torch.float32 else self._parents.to(store.dtype)
        self._workspaces: dict[int, _Workspace] = {}

    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        norm, space = self._weights.norm, self._workspace(len(token_ids))
        parents = torch.tensor(parent_slots, device=self._store.device)
        hidden = F.embedding(torch.tensor(token_ids, device=self._store.device), self._weights.embedding)
        for layer, mixer in enumerate(self._weights.mixers):
            self._gather(layer, parents, space)
            hidden = mixer.step(hidden, norm(hidden), space.views)
            self._scatter(layer, child_slots, space)
        return self._weights.head(norm(hidden))

    def _gather(self, layer: int, parents: Tensor, space: _Workspace) -> None:
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
            self._workspaces[num_rows] = _Workspace(stored, parents, children.unbind(0), views)
        return self._workspaces[num_rows]
