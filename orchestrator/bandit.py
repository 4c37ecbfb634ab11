"""Which tree shape to ask for: UCB1 over shapes, learned from every round. Pure.

Source: the bandit over tree shapes of "Mamba Drafters for Speculative Decoding", arXiv:2506.01206; UCB1 of
Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log, sqrt

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import BestFirst, TreePolicy


@dataclass(frozen=True)
class RoundOutcome:
    """What a round cost and brought.

    Attributes:
        shape: the shape that was asked for.
        num_tokens: tokens emitted, the bonus token included; at least 1.
        round_s: the whole round, as the orchestrator saw it, in seconds.
        draft_s: its share spent waiting for the draft, in seconds.
    """

    shape: TreePolicy
    num_tokens: int
    round_s: float
    draft_s: float


class RunningMean:
    """A mean that forgets: each new value weighs at least `floor`."""

    def __init__(self, floor: float = 0.05) -> None:
        self._floor = floor
        self._count = 0
        self.value: float | None = None

    def add(self, value: float) -> None:
        self._count += 1
        weight = max(self._floor, 1 / self._count)
        self.value = value if self.value is None else self.value + weight * (value - self.value)


@dataclass(frozen=True)
class Cost:
    """What a round adds to its arm: the arm's reward is -(sum of amounts) / (sum of weights)."""

    amount: float
    weight: float


Pricing = Callable[[RoundOutcome, float], Cost]
"""(outcome, seconds of a plain decoding round) to a cost; plain decoding costs about 1 a token."""

_MAX_AMOUNT = 8.0
"""In plain rounds. One stalled round must not bury a good shape; it also bounds UCB1's rewards."""


def measured_cost(outcome: RoundOutcome, plain_round_s: float) -> Cost:
    """Seconds over tokens, in units of a plain round: sees the network, batching and load as well as the models.

    Sums are divided, not quotients averaged: speed is all tokens over all time, and the mean of 1/N would
    punish shapes whose N varies.
    """
    return Cost(min(_MAX_AMOUNT, outcome.round_s / plain_round_s), outcome.num_tokens)


def paper_cost(outcome: RoundOutcome, plain_round_s: float) -> Cost:
    """The mean of 1/N + lambda * depth / N, N tokens in the round, lambda the cost of one level in plain rounds.

    The paper fixes lambda for a pair of models; here lambda * depth is measured in the round itself.

    Source: arXiv:2506.01206, whose reward is the negative of it.
    """
    return Cost(min(_MAX_AMOUNT, (1 + outcome.draft_s / plain_round_s) / outcome.num_tokens), 1)


@dataclass
class _Arm:
    num_rounds: int = 0
    amount: float = 0.0
    weight: float = 0.0

    @property
    def reward(self) -> float:
        return -self.amount / self.weight


@dataclass
class TreeBandit:
    """UCB1 over tree shapes.

    Every arm is played a few times first, plain decoding before the others because they are measured in its rounds;
    then the arm with the largest reward + exploration * sqrt(2 ln(total) / rounds).
    """

    arms: Sequence[TreePolicy]
    pricing: Pricing
    exploration: float
    num_first_rounds: int = 3
    _stats: dict[TreePolicy, _Arm] = field(init=False)
    _plain_round_s: RunningMean = field(init=False, default_factory=RunningMean)

    def __post_init__(self) -> None:
        self._stats = {arm: _Arm() for arm in dict.fromkeys([NO_DRAFT, *self.arms])}

    @property
    def rewards(self) -> dict[TreePolicy, float | None]:
        """Of every arm; None for one not played yet."""
        return {shape: arm.reward if arm.num_rounds else None for shape, arm in self._stats.items()}

    def choose(self) -> TreePolicy:
        for shape, arm in self._stats.items():
            if arm.num_rounds < self.num_first_rounds:
                return shape
        total = sum(arm.num_rounds for arm in self._stats.values())
        return max(self._stats, key=lambda shape: self._upper_bound(self._stats[shape], total))

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a round; shapes that are no arm of this bandit teach nothing."""
        if outcome.shape == NO_DRAFT:
            self._plain_round_s.add(outcome.round_s)
        if outcome.shape in self._stats and self._plain_round_s.value is not None:
            arm, cost = self._stats[outcome.shape], self.pricing(outcome, self._plain_round_s.value)
            arm.num_rounds += 1
            arm.amount += cost.amount
            arm.weight += cost.weight

    def _upper_bound(self, arm: _Arm, total_rounds: int) -> float:
        return arm.reward + self.exploration * sqrt(2 * log(total_rounds) / arm.num_rounds)


class BanditRegistry:
    """One bandit for each situation in which another shape may pay: the target, and how its tokens are chosen."""

    def __init__(self, arms: Sequence[TreePolicy], pricing: Pricing, exploration: float) -> None:
        self._arms = arms
        self._pricing = pricing
        self._exploration = exploration
        self._bandits: dict[tuple[str, str], TreeBandit] = {}

    def bandit(self, target: str, sampling_class: str, max_tree_nodes: int, *, only_fixed: bool = False) -> TreeBandit:
        """The situation's bandit; a new one has the arms that the target's verifiers take.

        Args:
            only_fixed: leave best-first trees out, which the rejection rule cannot have.
        """
        key = (target, sampling_class)
        if key not in self._bandits:
            arms = [
                arm
                for arm in self._arms
                if arm.num_nodes <= max_tree_nodes and not (only_fixed and isinstance(arm, BestFirst))
            ]
            self._bandits[key] = TreeBandit(arms, self._pricing, self._exploration)
        return self._bandits[key]
