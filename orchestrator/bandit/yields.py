"""What an arm brings in a round: tokens, for how many nodes and levels. From additive sums. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.bandit.nesting import Lesson

_LIKELY_CHAIN = 0.7
_LIKELY_TREE = 0.8
"""How often a level is passed, before anything is known. Hopeful, so that arms nobody has tried get tried."""

_PRIOR_SPREAD = 0.5
"""Standard deviation of the drafted tokens of a round, as a share of their mean, before anything is known."""


class Yield(NamedTuple):
    """Means over the rounds that told of an arm, in which the prior counts as one.

    Attributes:
        num_rounds: that told of it, faded; the prior not counted.
        num_tokens: a round; 1 without drafting.
        tokens_variance: from round to round.
        inverse_tokens: mean of 1 / tokens, which the paper's reward is made of.
        num_nodes, depth: of the trees drawn.
    """

    arm: TreePolicy
    num_rounds: float
    num_tokens: float
    tokens_variance: float
    inverse_tokens: float
    num_nodes: float
    depth: float


def yield_amounts(lessons: Iterable[Lesson]) -> dict[str, float]:
    """What a round adds to the sums."""
    amounts: dict[str, float] = {}
    for lesson in lessons:
        num_tokens = lesson.num_tokens
        values = (1, num_tokens, num_tokens**2, 1 / num_tokens, lesson.num_nodes, lesson.depth)
        amounts.update(zip(_names(lesson.policy), values, strict=True))
    return amounts


def arm_yield(arm: TreePolicy, sums: Mapping[str, float]) -> Yield:
    """What is known of an arm; the prior alone where nothing is."""
    rounds, tokens, squares, inverses, nodes, depths = (sums.get(name, 0.0) for name in _names(arm))
    prior = _prior(arm)
    share = 1 / (rounds + 1)
    mean = (tokens + prior) * share
    mean_square = (squares + prior**2 + (_PRIOR_SPREAD * (prior - 1)) ** 2) * share
    return Yield(
        arm=arm,
        num_rounds=rounds,
        num_tokens=mean,
        tokens_variance=max(0.0, mean_square - mean * mean),
        inverse_tokens=(inverses + 1 / prior) * share,
        num_nodes=(nodes + arm.num_nodes) * share,
        depth=(depths + arm.depth) * share,
    )


@lru_cache
def _names(arm: TreePolicy) -> tuple[str, ...]:
    return tuple(f"{arm}/{what}" for what in ("rounds", "tokens", "tokens2", "inverse", "nodes", "depth"))


@lru_cache
def _prior(arm: TreePolicy) -> float:
    """Tokens a round."""
    is_wide = isinstance(arm, BestFirst) or not arm.is_chain
    likely = _LIKELY_TREE if is_wide else _LIKELY_CHAIN
    return float(sum(likely**level for level in range(arm.depth + 1)))
