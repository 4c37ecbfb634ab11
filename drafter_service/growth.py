"""A tree while it grows: which nodes stand, which are stepped next, who holds which slot. Pure.

The drafter thinks in its own tokens, the tree is in the target's. With one vocabulary for both, a node is one token in
either. With two, a drafter token may be several nodes (the target spells it), and a node several drafter tokens (the
drafter spells it); so a node knows which drafter token, fed to the state of which other node, leads to it.

How likely a node is to be accepted is estimated from the scores that it and its rivals have under the shared noise:
softmax(score / T) over a row, T being `SHARPNESS`, multiplied along the path. The target ranks by such scores too, with
its own probabilities for the drafter's; the more two scores differ, the less likely the models disagree about
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, log, log1p

from drafter_service.selection import best_nodes, branching_nodes
from drafter_service.vocabulary.lexicon import Lexicon
from draftpool.tree import ROOT, DraftTree, TreeShape
from draftpool.tree_policy import TreePolicy

SHARPNESS = 0.75
"""T above. Measured: the log loss of the target's choice under the estimate is least at 0.7 to 0.8, greedy and sampled
alike, on text as well as on code (benchmarks/acceptance.py)."""

_MIN_MERGE_LOG_PROB = log(0.05)
_MAX_MERGED_NODES = 3
"""A target's token is put together from at most so many nodes and one drafter token more."""

_MAX_FRONTIER = 8
"""Nodes of a best-first tree that are stepped at once: wider levels cost more than they bring."""

GumbelNoise = Callable[[int, int], float]
"""(depth below the root of the token's parent, target token id) to -log E; 0 when greedy."""


@dataclass(eq=False, slots=True)
class Node:
    """A token of the tree, or the root: the text so far.

    Attributes:
        depth: 0 for the root.
        log_value: estimate of how likely the target is to come here, as a logarithm.
        log_prob: of the drafter's text from the root to here, by the drafter.
        drafter_id: fed to the state of `state_parent`, gives the state after this node; None where the node is a
            part of a drafter token and has no state of its own.
        slot: where that state is, once the node has been stepped.
        number: in the order in which nodes were found; 0 for the root.
        support: as in `Row`, in the target's tokens.
        has_row: whether it is known what follows.
        log_total: logarithm of the sum of exp(score / T) over its children and all their rivals; None as in `Row`.
    """

    token_id: int
    parent: Node | None = field(repr=False)
    depth: int
    log_value: float
    log_prob: float
    drafter_id: int | None = None
    state_parent: Node | None = field(default=None, repr=False)
    slot: int | None = None
    number: int = 0
    support: Sequence[tuple[int, float]] = ()
    has_row: bool = False
    log_total: float | None = None
    children: dict[int, Node] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Candidate:
    """A drafter token that may come next.

    Attributes:
        score: its log-probability plus the noise of the target token that it would be, or be the beginning of.
        log_prob: the drafter's alone.
    """

    drafter_id: int
    score: float
    log_prob: float


@dataclass(frozen=True)
class Row:
    """What follows a node.

    Attributes:
        candidates: the best by score, best first.
        log_total: logarithm of the sum of exp(score / T) over all tokens; None where it was not computed: nodes are
            then worth comparing with their siblings only.
        likely: (drafter id, log-probability) of the most probable ones, whatever their noise; empty with one
            vocabulary.
        support: (drafter id, probability) of all that the candidates were drawn from; empty where they were not drawn.
    """

    candidates: Sequence[Candidate]
    log_total: float | None = None
    likely: Sequence[tuple[int, float]] = ()
    support: Sequence[tuple[int, float]] = ()


class TreeGrowth:
    """The tree of one session.

    Attributes:
        policy: what was asked for.
        num_steps: batched steps it took part in.
    """

    def __init__(self, policy: TreePolicy, lexicon: Lexicon, root_slot: int | None, gumbel: GumbelNoise) -> None:
        self.policy = policy
        self.num_steps = 0
        self.root = Node(ROOT, None, 0, 0.0, 0.0, slot=root_slot)
        self._lexicon = lexicon
        self._gumbel = gumbel
        self._nodes: list[Node] = []
        self._is_stopped = policy.depth == 0
        self._frontier: list[Node] | None = None

    @property
    def slots(self) -> list[int]:
        """Held by nodes; the root's is not among them."""
        return [node.slot for node in self._nodes if node.slot is not None]

    def num_children(self, node: Node) -> int:
        """How many children of a node are worth knowing."""
        if isinstance(self.policy, TreeShape):
            return self.policy.branching[node.depth]
        return min(self.policy.max_nodes, _MAX_FRONTIER)

    @property
    def waits_for_root(self) -> bool:
        """Whether the root's children are not known yet."""
        return not self.root.has_row and not self._is_stopped

    @property
    def is_done(self) -> bool:
        return not self.waits_for_root and not self.frontier

    @property
    def frontier(self) -> list[Node]:
        """The nodes to be stepped next, none when the tree is done."""
        if self._frontier is None:
            self._frontier = self._next_frontier()
        return self._frontier

    def stop(self) -> None:
        """Leave the tree as it is."""
        self._is_stopped, self._frontier = True, []

    def add_row(self, node: Node, row: Row) -> None:
        """Give a node that has been stepped its children."""
        node.has_row, node.log_total = True, row.log_total
        node.support = [(self._lexicon.spelling(drafter_id)[0], prob) for drafter_id, prob in row.support]
        self._frontier = None
        merged_ids = self._add_merged(node, row.likely)
        for candidate in row.candidates:
            if candidate.drafter_id not in merged_ids:
                self._add_spelled(node, candidate, _log_value(node, candidate.score))

    def tree(self) -> DraftTree:
        """What the policy makes of the nodes that stand, in the target's tokens.

        The order tells what smaller trees would be: a best-first tree's nodes stand most valuable first, a fixed
        shape's level by level, siblings best first.
        """
        nodes = self._selected()
        index_of = {self.root: ROOT} | {node: index for index, node in enumerate(nodes)}
        return DraftTree(
            tuple(node.token_id for node in nodes),
            tuple(index_of[node.parent] for node in nodes if node.parent is not None),
        )

    def supports(self) -> list[Sequence[tuple[int, float]]]:
        """For the root and every node of the tree, what its children were drawn from: (target id, probability)."""
        return [node.support for node in (self.root, *self._selected())]

    def path(self, token_ids: Sequence[int]) -> list[Node]:
        """The nodes met by following tokens down from the root."""
        met: list[Node] = []
        node = self.root
        for token_id in token_ids:
            if token_id not in node.children:
                break
            node = node.children[token_id]
            met.append(node)
        return met

    def drafter_ids(self, node: Node) -> list[int]:
        """What the state after a node has been fed since the root."""
        ids: list[int] = []
        while node.drafter_id is not None and node.state_parent is not None:
            ids.append(node.drafter_id)
            node = node.state_parent
        return ids[::-1]

    def _next_frontier(self) -> list[Node]:
        if self._is_stopped or self.num_steps > 2 * self.policy.depth:  # a step may put nodes together, not go deeper
            return []
        frontier = [node for node in self._selected() if self._is_worth_stepping(node)]
        return frontier if isinstance(self.policy, TreeShape) else frontier[:_MAX_FRONTIER]

    def _selected(self) -> list[Node]:
        if isinstance(self.policy, TreeShape):
            return branching_nodes(self.root, self.policy.branching)
        return best_nodes(self._nodes, self.policy.max_nodes)

    def _is_worth_stepping(self, node: Node) -> bool:
        if node.slot is not None or node.drafter_id is None or node.depth >= self.policy.depth:
            return False
        # What follows a node that is reached less often than that is hardly among the best.
        return isinstance(self.policy, TreeShape) or node.log_value > -log(self.policy.max_nodes + 1)

    def _add_spelled(self, node: Node, candidate: Candidate, log_value: float) -> None:
        """The target's tokens for one drafter token: a child or, where the target spells it, a chain below a child."""
        log_prob = node.log_prob + candidate.log_prob
        last = node
        for token_id in self._lexicon.spelling(candidate.drafter_id):
            if last.depth == self.policy.depth:
                return
            last = self._child(last, token_id, log_value, log_prob)
        if last is not node and last.drafter_id is None:
            last.drafter_id, last.state_parent, last.log_prob = candidate.drafter_id, node, log_prob

    def _add_merged(self, node: Node, likely: Sequence[tuple[int, float]]) -> set[int]:
        """Target tokens that the drafter spells, ending with a token that is likely after this node.

        They stand beside the nodes that begin them: a sibling of this node, or of one above it.

        Returns:
            The drafter tokens that were used up, and do not follow this node as tokens of their own.
        """
        used: set[int] = set()
        for drafter_id, log_prob in likely:
            if log_prob > _MIN_MERGE_LOG_PROB and (merged := self._merged(node, drafter_id)) is not None:
                base, token_id = merged
                total = node.log_prob + log_prob
                score = total - base.log_prob + self._gumbel(base.depth, token_id)
                child = self._child(base, token_id, _log_value(base, score), total)
                if child.drafter_id is None:
                    child.drafter_id, child.state_parent, child.log_prob = drafter_id, node, total
                if base is node.parent:
                    node.log_value += log1p(-min(exp(log_prob), 0.99))
                used.add(drafter_id)
        return used

    def _merged(self, node: Node, drafter_id: int) -> tuple[Node, int] | None:
        """The longest target token that ends with a drafter token after a node, and the node it would follow."""
        text = self._lexicon.drafter_bytes(drafter_id)
        found = None
        for _ in range(_MAX_MERGED_NODES):
            if node.parent is None or not text:
                break
            text = self._lexicon.target_bytes(node.token_id) + text
            node = node.parent
            token_id = self._lexicon.unshared_id(text)
            if token_id is not None and node.log_total is not None:
                found = node, token_id
        return found

    def _child(self, parent: Node, token_id: int, log_value: float, log_prob: float) -> Node:
        """The child with a token, made if need be; what speaks for it adds up."""
        child = parent.children.get(token_id)
        if child is None:
            child = parent.children[token_id] = Node(token_id, parent, parent.depth + 1, log_value, log_prob)
            self._nodes.append(child)
            child.number = len(self._nodes)
        else:
            child.log_value = min(parent.log_value, _log_add(child.log_value, log_value))
        return child


def _log_value(parent: Node, score: float) -> float:
    """Of a child with this score."""
    share = score / SHARPNESS
    return parent.log_value + (share if parent.log_total is None else min(0.0, share - parent.log_total))


def _log_add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    larger, smaller = max(first, second), min(first, second)
    return larger + log1p(exp(smaller - larger))
