"""Which of the nodes that were found make the tree. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drafter_service.growth import Node


def branching_nodes(root: Node, branching: Sequence[int]) -> list[Node]:
    """Of every node's children the best, as many as its depth has; level by level, siblings best first."""
    selected: list[Node] = []
    level = [root]
    for num_children in branching:
        level = [child for node in level for child in _best(node.children.values(), num_children)]
        selected += level
    return selected


def best_nodes(nodes: Sequence[Node], max_nodes: int) -> list[Node]:
    """The most valuable nodes, best first, and with every node its parent.

    A node is worth no more than its parent, whatever was found out about either since; a parent stands before its child
    in `nodes`, and sorting keeps the order of equals.
    """
    worth: dict[Node | None, float] = {}
    for node in nodes:
        worth[node] = min(node.log_value, worth.get(node.parent, 0.0))
    return sorted(nodes, key=lambda node: -worth[node])[:max_nodes]


def _best(nodes: Iterable[Node], max_nodes: int) -> list[Node]:
    return sorted(nodes, key=lambda node: -node.log_value)[:max_nodes]
