"""Draft trees and the shapes they are asked for in. Pure: no tensors, no I/O.

A *node* is a proposed token at one place of a tree; its parent is another node or `ROOT`, the last
committed token. Nodes stand parent before child, so one pass over them in order sees every parent first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul

from draftpool.errors import BadParameter, MalformedTree

ROOT = -1
"""The parent of a first-level node: the last committed token."""


@dataclass(frozen=True)
class DraftTree:
    """A tree of proposed tokens, flat.

    Attributes:
        token_ids: N token ids in the target's vocabulary.
        parents: N node ids; a parent stands before its child, `ROOT` is the last committed token.

    Raises:
        MalformedTree: the lengths disagree, a parent does not stand before its child, or two children of
            one parent carry the same token (the walk along chosen tokens would be ambiguous).
    """

    token_ids: tuple[int, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.parents):
            raise MalformedTree(
                f"the tree has {len(self.token_ids)} token ids but {len(self.parents)} parents; they must match"
            )
        edges: set[tuple[int, int]] = set()
        for node, (token_id, parent) in enumerate(zip(self.token_ids, self.parents, strict=True)):
            if not ROOT <= parent < node:
                raise MalformedTree(
                    f"node {node} has parent {parent}; a parent is {ROOT} (the last committed token) or an earlier node"
                )
            if (parent, token_id) in edges:
                raise MalformedTree(f"node {node} repeats token {token_id} under parent {parent}; siblings must differ")
            edges.add((parent, token_id))

    @property
    def num_nodes(self) -> int:
        return len(self.token_ids)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """N depths; a child of the last committed token has depth 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    @property
    def depth(self) -> int:
        """The longest path, in nodes; 0 for the empty tree."""
        return max(self.depths, default=0)

    @cached_property
    def _children(self) -> dict[tuple[int, int], int]:
        return {
            (parent, token_id): node
            for node, (token_id, parent) in enumerate(zip(self.token_ids, self.parents, strict=True))
        }

    def child(self, parent: int, token_id: int) -> int | None:
        """The child of `parent` (or of `ROOT`) that carries `token_id`, if there is one."""
        return self._children.get((parent, token_id))

    def walk(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """The nodes met by following `token_ids` down from the root, until no child carries the next one."""
        nodes: list[int] = []
        parent = ROOT
        for token_id in token_ids:
            node = self.child(parent, token_id)
            if node is None:
                break
            nodes.append(node)
            parent = node
        return tuple(nodes)

    def after(self, token_ids: Sequence[int]) -> DraftTree:
        """What is left of this tree once `token_ids` are committed: the nodes below the one that they lead to.

        Empty where the tokens leave the tree or end at a leaf. Nodes keep their order.
        """
        path = self.walk(token_ids)
        if len(path) < len(token_ids):
            return EMPTY_TREE
        places = {path[-1] if path else ROOT: ROOT}  # of what is kept, and the root, in the new tree
        kept: list[int] = []
        for node, parent in enumerate(self.parents):
            if parent in places:
                places[node] = len(kept)
                kept.append(node)
        return DraftTree(
            tuple(self.token_ids[node] for node in kept), tuple(places[self.parents[node]] for node in kept)
        )

    def ancestors(self, node: int) -> tuple[int, ...]:
        """The path from the first level down to `node`, `node` included."""
        path: list[int] = []
        while node != ROOT:
            path.append(node)
            node = self.parents[node]
        return tuple(reversed(path))


EMPTY_TREE = DraftTree((), ())
"""No drafting: the pass over it is one plain decoding step."""


@dataclass(frozen=True)
class TreeShape:
    """A tree policy with fixed branching: every node of depth d has `branching[d]` children.

    (3, 2, 2, 1, 1) is three children of the root, two under each of those, and so on: 45 nodes. A chain of
    four is (1, 1, 1, 1); no drafting is ().

    Source: the tree configurations of "Mamba Drafters for Speculative Decoding", arXiv:2506.01206.

    Raises:
        BadParameter: a branching factor below 1.
    """

    branching: tuple[int, ...]

    def __post_init__(self) -> None:
        for factor in self.branching:
            if factor < 1:
                raise BadParameter(f"branching factors must be at least 1, got {list(self.branching)}")

    @property
    def depth(self) -> int:
        return len(self.branching)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of nodes of each level, first level first."""
        return tuple(accumulate(self.branching, mul))

    @property
    def num_nodes(self) -> int:
        return sum(self.widths)

    @property
    def is_chain(self) -> bool:
        return self.depth > 0 and all(factor == 1 for factor in self.branching)

    def within(self, max_nodes: int) -> TreeShape:
        """This shape without the deepest levels that would take it beyond `max_nodes`."""
        totals = accumulate(self.widths)
        return TreeShape(self.branching[: sum(total <= max_nodes for total in totals)])

    def no_deeper_than(self, max_depth: int) -> TreeShape:
        return TreeShape(self.branching[: max(0, max_depth)])

    def __str__(self) -> str:
        if not self.branching:
            return "no draft"
        if self.is_chain:
            return f"chain of {self.depth}"
        return "(" + ",".join(map(str, self.branching)) + ")"


NO_DRAFT = TreeShape(())


def chain(length: int) -> TreeShape:
    """The shape that is a single path of `length` nodes."""
    return TreeShape((1,) * length)
