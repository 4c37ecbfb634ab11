"""The rejection rule: which nodes stand of a tree that was drawn without replacement. Pure, in float64.

At a node, the *residual* is what is left of the target's law, and *draft* what is left of the drafter's. The siblings
are tried in the order in which they were drawn: one that carries x is accepted with probability
min(1, residual(x) / draft(x)). When it is not, the residual becomes max(residual - draft, 0), normalised, and the draft
loses x, normalised: the next sibling was drawn from just that. When all have failed, the token is sampled from the
residual. Whatever the draft was, the token follows the target's law: of residual(x), min(residual(x), draft(x)) is
emitted by acceptance, and the rest, max(residual(x) - draft(x), 0), is what goes on.

The draft is sparse. Outside of its support the residual only gains by being normalised, so its proportions there stay
those of the target: one sample from outside, taken in advance, is enough.

Source: Algorithm 1 of "Mamba Drafters for Speculative Decoding", arXiv:2506.01206; recursive rejection sampling
without replacement, arXiv:2402.14160; the rule for one draft, arXiv:2211.17192.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from draftpool.errors import MalformedTree
from draftpool.noise import uniform_noise
from draftpool.tree import ROOT, DraftTree
from orchestrator.acceptance import AcceptedPath
from orchestrator.sparse_laws import FloatArray, SparseLaws
from orchestrator.target_laws import TargetLaws


@dataclass(frozen=True, eq=False)
class SiblingOdds:
    """What may come after a node whose children were drawn.

    Attributes:
        accept_probs: of each sibling, once those before it have failed. Fewer than there are siblings where the rest
            cannot be accepted.
        residual: (S,) on the drafter's support, what the token is sampled from when all have failed.
        outside: its probability of everything else.
    """

    accept_probs: tuple[float, ...]
    residual: FloatArray
    outside: float

    def place(self, uniform: float) -> int | None:
        """Sample the residual: an index into the support, or None for everything else.

        Only what has some probability can come, whatever rounding does.
        """
        weights = np.append(self.residual, self.outside)
        possible = np.flatnonzero(weights > 0)
        edges = np.cumsum(weights[possible])
        found = np.searchsorted(edges, uniform * edges[-1], side="right")
        place = int(possible[min(int(found), len(possible) - 1)])
        return None if place == len(self.residual) else place


def sibling_odds(places: Sequence[int], draft: FloatArray, target: FloatArray, outside: float) -> SiblingOdds:
    """How siblings fare that were drawn one after another, without replacement.

    Args:
        places: of the siblings in the support, in the order in which they were drawn.
        draft: (S,) what the first was drawn from, up to a factor.
        target: (S,) the target's law there, and `outside` the target's probability of everything else.
    """
    total = target.sum() + outside
    residual, outside = target / total, outside / total
    left = draft.copy()
    accept_probs: list[float] = []
    for place in places:
        mass = left.sum()  # summed anew: after a very likely sibling, 1 minus what was tried would be rounding alone
        if not mass > 0:
            break  # too little for the wire's float32; rejected, which is exact for whatever is decided without looking
        left = left / mass
        accept_probs.append(min(1, residual[place] / left[place]) if left[place] > 0 else 0)
        rest = np.maximum(residual - left, 0)
        total = rest.sum() + outside
        if not total > 0:
            break  # both laws are the same, so that only rounding can have rejected: sample from the law itself
        residual, outside = rest / total, outside / total
        left[place] = 0
    return SiblingOdds(tuple(accept_probs), residual, outside)


def rejection_uniforms(seed: int, num_committed: int, tree: DraftTree) -> FloatArray:
    """(depth + 1, most siblings + 1): all the chance that a walk may need; a function of (seed, position, sibling)."""
    most_siblings = max((len(siblings) for siblings in _children(tree)), default=0)
    return uniform_noise(seed, range(num_committed, num_committed + tree.depth + 1), most_siblings + 1)


def accept_drawn_path(tree: DraftTree, draft: SparseLaws, target: TargetLaws, uniforms: FloatArray) -> AcceptedPath:
    """Walk a tree of drawn nodes: the rejection rule. At least one token always results.

    Args:
        tree: N nodes; siblings stand in the order in which they were drawn.
        draft: N + 1 rows, what the children of each were drawn from.
        target: as many, on the same support.
        uniforms: in [0, 1); entry (d, i) decides on sibling i at depth d, the one behind the siblings on the residual.

    Raises:
        MalformedTree: the laws are those of another tree.
    """
    children = _children(tree)
    if not len(children) == len(draft.row_lengths) == len(target.outside_probs):
        raise MalformedTree(f"a tree of {tree.num_nodes} nodes came with laws for {len(draft.row_lengths)} rows")
    nodes: list[int] = []
    node = ROOT
    for depth in count():
        row, siblings = node + 1, children[node + 1]
        odds = _odds(tree, siblings, row, draft, target)
        accepted = _first_accepted(siblings, odds, uniforms[depth])
        if accepted is None:
            last = _residual_token(odds, row, draft, target, float(uniforms[depth, len(siblings)]))
            break
        nodes.append(accepted)
        node = accepted
    return AcceptedPath(tuple(nodes), (*(tree.token_ids[node] for node in nodes), last))


def _children(tree: DraftTree) -> list[list[int]]:
    """N + 1 lists; the root's is the first."""
    children: list[list[int]] = [[] for _ in range(tree.num_nodes + 1)]
    for node, parent in enumerate(tree.parents):
        children[parent + 1].append(node)
    return children


def _odds(tree: DraftTree, siblings: Sequence[int], row: int, draft: SparseLaws, target: TargetLaws) -> SiblingOdds:
    share = draft.row(row)
    places = []
    for node in siblings:
        place = draft.place(row, tree.token_ids[node])
        if place is None:
            raise MalformedTree(f"node {node} is not among what its parent's children were drawn from")
        places.append(place - share.start)
    return sibling_odds(places, draft.probs[share], target.inside.probs[share], float(target.outside_probs[row]))


def _first_accepted(siblings: Sequence[int], odds: SiblingOdds, uniforms: FloatArray) -> int | None:
    for node, prob, uniform in zip(siblings, odds.accept_probs, uniforms, strict=False):
        if uniform < prob:
            return node
    return None


def _residual_token(odds: SiblingOdds, row: int, draft: SparseLaws, target: TargetLaws, uniform: float) -> int:
    place = odds.place(uniform)
    if place is None:
        return target.outside_token_ids[row]
    return int(draft.token_ids[draft.row(row)][place])
