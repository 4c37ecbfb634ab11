"""Which drafted tokens stand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import MalformedTree
from draftpool.tree import ROOT, DraftTree


@dataclass(frozen=True)
class AcceptedPath:
    """What one verified tree adds to a request.

    Attributes:
        nodes: the accepted nodes, from the first level down; may be empty.
        token_ids: the accepted nodes' tokens and then the bonus token, the target's own; never empty.
    """

    nodes: tuple[int, ...]
    token_ids: tuple[int, ...]

    @property
    def num_accepted(self) -> int:
        return len(self.nodes)

    @property
    def rows(self) -> tuple[int, ...]:
        """For each of `token_ids`, the row of the verifier's reply that chose it."""
        return (0, *(node + 1 for node in self.nodes))


def accept_path(tree: DraftTree, chosen_token_ids: Sequence[int]) -> AcceptedPath:
    """Walk a draft tree along the tokens the target chose: the coupled rule.

    The target has chosen one token after the last committed token and one after every node, each an exact sample of
    its own distribution given the path. The walk follows the child that carries the chosen token for as long as
    there is one; the first chosen token without a child is the bonus token. The emitted tokens
    therefore follow the target's law whatever was drafted.

    Args:
        tree: N nodes, parent before child.
        chosen_token_ids: N + 1 ids; entry 0 belongs to the last committed token, entry i + 1 to node i.

    Raises:
        MalformedTree: the two lengths disagree.

    Source: drafter-invariant speculative decoding, arXiv:2408.07978; token trees as in SpecInfer, arXiv:2305.09781.
    """
    if len(chosen_token_ids) != tree.num_nodes + 1:
        raise MalformedTree(f"{len(chosen_token_ids)} tokens were chosen for a tree of {tree.num_nodes} nodes")
    nodes: list[int] = []
    token_ids = [chosen_token_ids[0]]
    node = tree.child(ROOT, token_ids[-1])
    while node is not None:
        nodes.append(node)
        token_ids.append(chosen_token_ids[node + 1])
        node = tree.child(node, token_ids[-1])
    return AcceptedPath(tuple(nodes), tuple(token_ids))
