"""What an arm brings in a round: tokens, for how many nodes and levels. From additive sums. Pure.

An arm's tokens are those of the arm below it, the largest that is nested in it, and what it adds to them: rounds that
tell of the one tell of the other, and their difference varies much less than either. So what a thousand rounds of a
small tree told is not lost on a large one that was drawn ten times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import log2
from typing import NamedTuple

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.nesting import Lesson, is_nested

_PRIOR_TOKENS = 0.5
"""What twice as many nodes add to a round, before anything is known. Hopeful: what nobody has tried shall be tried."""

_PRIOR_ROUNDS = 4.0
"""What the prior weighs."""


class Yield(NamedTuple):
    """Means over the rounds that told of an arm, in which the prior counts as a few.

    Attributes:
        num_rounds: that told of it, faded; the prior not counted.
        num_tokens: a round; 1 without drafting.
        tokens_variance: of that mean.
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


def arms_below(arms: Sequence[TreePolicy]) -> dict[TreePolicy, TreePolicy]:
    """For every arm that drafts the largest other one nested in it; arms stand after those below them."""
    below: dict[TreePolicy, TreePolicy] = {}
    for arm in sorted(arms, key=lambda arm: arm.num_nodes):
        if arm.depth > 0:
            nested = [other for other in arms if other != arm and is_nested(other, arm)]
            below[arm] = max(nested, key=lambda other: other.num_nodes, default=NO_DRAFT)
    return below


def yield_amounts(lessons: Iterable[Lesson], below: Mapping[TreePolicy, TreePolicy]) -> dict[str, float]:
    """What a round adds to the sums."""
    amounts: dict[str, float] = {"rounds": 1}
    tokens = {lesson.policy: lesson.num_tokens for lesson in lessons}
    for lesson in lessons:
        if lesson.policy in below:
            num_tokens = lesson.num_tokens
            num_added = num_tokens - tokens.get(below[lesson.policy], 1)
            values = (1, num_added, num_added**2, 1 / num_tokens, lesson.num_nodes, lesson.depth)
            amounts.update(zip(_names(lesson.policy), values, strict=True))
    return amounts


def arm_yields(below: Mapping[TreePolicy, TreePolicy], sums: Mapping[str, float]) -> dict[TreePolicy, Yield]:
    """What is known of every arm, plain decoding first; the prior alone where nothing is."""
    yields: dict[TreePolicy, Yield] = {NO_DRAFT: Yield(NO_DRAFT, sums.get("rounds", 0.0), 1.0, 0.0, 1.0, 0.0, 0.0)}
    for arm, lower in below.items():
        yields[arm] = _yield(arm, yields[lower], sums)
    return yields


def _yield(arm: TreePolicy, lower: Yield, sums: Mapping[str, float]) -> Yield:
    rounds, added, squares, inverses, nodes, depths = (sums.get(name, 0.0) for name in _names(arm))
    prior = _prior_tokens(arm) - _prior_tokens(lower.arm)
    share = 1 / (rounds + _PRIOR_ROUNDS)
    mean = (added + _PRIOR_ROUNDS * prior) * share
    # The prior's variance is that of a count. It keeps a few rounds that happened to add nothing from settling it.
    variance = (squares + _PRIOR_ROUNDS * prior * (prior + 1)) * share - mean * mean
    return Yield(
        arm=arm,
        num_rounds=rounds,
        num_tokens=lower.num_tokens + mean,
        tokens_variance=lower.tokens_variance + max(0.0, variance) * share,
        inverse_tokens=(inverses + _PRIOR_ROUNDS / _prior_tokens(arm)) * share,
        num_nodes=(nodes + _PRIOR_ROUNDS * arm.num_nodes) * share,
        depth=(depths + _PRIOR_ROUNDS * arm.depth) * share,
    )


@lru_cache
def _names(arm: TreePolicy) -> tuple[str, ...]:
    return tuple(f"{arm}/{what}" for what in ("rounds", "added", "added2", "inverse", "nodes", "depth"))


@lru_cache
def _prior_tokens(arm: TreePolicy) -> float:
    """A round."""
    return 1 + _PRIOR_TOKENS * log2(1 + arm.num_nodes)
