"""Full information: one verified tree tells what smaller trees would have brought. Pure.

Where the tree that another policy would have drawn is a part of the tree that was drawn, the outcome of the other is
known: the walk along the target's choices goes on for as long as it stays in the part. *Nested* policies are those
whose trees are parts whatever the drafter thinks; learning from them is as good as playing them. A chain is not nested
in a best-first tree: that the tree holds the chain says that the drafter is sure of it, and so likely right.

The same holds for drawn trees (the rejection rule): siblings are tried in turn, and what is left of the target's law
after some does not depend on those that would follow. Only trees of fixed branching are drawn.

Source: full-information feedback as in "Not-a-Bandit", arXiv:2510.20064, which does it for drafters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from draftpool.tree import ROOT, DraftTree, TreeShape
from draftpool.tree_policy import BestFirst, TreePolicy


@dataclass(frozen=True)
class VerifiedTree:
    """A round's tree and what became of it.

    Attributes:
        policy: what the drafter was asked for in the end; the tree may be smaller.
        tree: best nodes first, see `DraftReply.tree` in drafter.proto.
        accepted_nodes: from the first level down.
        num_tokens: committed by the round, the bonus token included; fewer than accepted where the text ended.
        is_rest: it is what was left of a tree that came late, which tells nothing about whole ones.
    """

    policy: TreePolicy
    tree: DraftTree
    accepted_nodes: Sequence[int]
    num_tokens: int
    is_rest: bool = False


@dataclass(frozen=True)
class Lesson:
    """What a policy brought in a round, or would have brought.

    Attributes:
        num_tokens: at least 1.
        num_nodes, depth: of its tree.
    """

    policy: TreePolicy
    num_tokens: int
    num_nodes: int
    depth: int


def is_nested(inner: TreePolicy, outer: TreePolicy) -> bool:
    """Whether the tree of `inner` is always a part of the tree of `outer`."""
    if inner.depth == 0:
        return True
    if isinstance(inner, TreeShape) and isinstance(outer, TreeShape):
        pairs = zip(inner.branching, outer.branching, strict=False)
        return inner.depth <= outer.depth and all(ours <= theirs for ours, theirs in pairs)
    if isinstance(inner, BestFirst) and isinstance(outer, BestFirst):
        # Where the larger tree may go deeper it may have spent there what the smaller one would have spent on breadth.
        return inner.max_nodes <= outer.max_nodes and inner.depth == min(inner.max_nodes, outer.max_depth)
    return False


def nested_lessons(verified: VerifiedTree, policies: Iterable[TreePolicy]) -> list[Lesson]:
    """What the round says about every policy that is nested in the one that was asked for, that one among them."""
    if verified.is_rest:
        return []
    return [_lesson(verified, policy) for policy in policies if is_nested(policy, verified.policy)]


def _lesson(verified: VerifiedTree, policy: TreePolicy) -> Lesson:
    tree = verified.tree
    if policy == verified.policy:
        return Lesson(policy, verified.num_tokens, tree.num_nodes, tree.depth)
    nodes = part_of(tree, policy)
    num_accepted = 0
    for node in verified.accepted_nodes:
        if node not in nodes:
            break
        num_accepted += 1
    depth = max((tree.depths[node] for node in nodes), default=0)
    return Lesson(policy, min(num_accepted + 1, verified.num_tokens), len(nodes), depth)


def part_of(tree: DraftTree, policy: TreePolicy) -> set[int]:
    """The nodes that the tree of a nested policy has; a drafter that had no more for the large tree has none for it."""
    if policy.depth == 0:
        return set()
    if isinstance(policy, BestFirst):
        return set(range(min(policy.max_nodes, tree.num_nodes)))
    return _branching_nodes(tree, policy)


def _branching_nodes(tree: DraftTree, shape: TreeShape) -> set[int]:
    nodes = {ROOT}
    num_children = [0] * (tree.num_nodes + 1)  # the root's at the end
    for node, (parent, depth) in enumerate(zip(tree.parents, tree.depths, strict=True)):
        rank = num_children[parent]
        num_children[parent] += 1
        if depth <= shape.depth and parent in nodes and rank < shape.branching[depth - 1]:
            nodes.add(node)
    nodes.remove(ROOT)
    return nodes
