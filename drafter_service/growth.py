"""A tree while it grows: which nodes stand, which wait for their step, who holds which slot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.tree import ROOT, DraftTree, TreeShape


@dataclass(frozen=True)
class Candidate:
    """A token that the drafter proposes, in both vocabularies."""

    target_id: int
    drafter_id: int


class GrowingTree:
    """The tree of one session, level by level.

    Attributes:
        shape: what was asked for.
        slots: by node, the slot with the state after it; leaves and nodes that were not stepped have none.
        frontier: the nodes, or `ROOT`, whose children come next.
    """

    def __init__(self, shape: TreeShape) -> None:
        self.shape = shape
        self.slots: dict[int, int] = {}
        self.frontier: list[int] = [ROOT]
        self._token_ids: list[int] = []
        self._drafter_ids: list[int] = []
        self._parents: list[int] = []
        self._num_levels = 0

    @property
    def is_growing(self) -> bool:
        return self._num_levels < self.shape.depth and bool(self.frontier)

    @property
    def num_levels(self) -> int:
        return self._num_levels

    @property
    def num_children(self) -> int:
        """How many children every node of the frontier is to have."""
        return self.shape.branching[self._num_levels]

    def add_level(self, candidates: Sequence[Sequence[Candidate]]) -> None:
        """Give each node of the frontier, in order, its children; they are the next frontier."""
        parents, self.frontier = self.frontier, []
        for parent, siblings in zip(parents, candidates, strict=True):
            for candidate in siblings:
                self.frontier.append(len(self._token_ids))
                self._token_ids.append(candidate.target_id)
                self._drafter_ids.append(candidate.drafter_id)
                self._parents.append(parent)
        self._num_levels += 1

    def stop(self) -> None:
        """Leave the tree as it is."""
        self.frontier = []

    def hold(self, slots: Sequence[int]) -> None:
        """Note the slots that the frontier's states are about to be written to."""
        self.slots.update(zip(self.frontier, slots, strict=True))

    def frontier_drafter_ids(self) -> list[int]:
        return [self._drafter_ids[node] for node in self.frontier]

    def frontier_parent_slots(self, root_slot: int) -> list[int]:
        parents = (self._parents[node] for node in self.frontier)
        return [root_slot if parent == ROOT else self.slots[parent] for parent in parents]

    def tree(self) -> DraftTree:
        return DraftTree(tuple(self._token_ids), tuple(self._parents))
