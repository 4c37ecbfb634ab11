"""Which tree shape to ask for: UCB1 over shapes, learned from every round. Pure.

Source: the bandit over tree shapes of "Mamba Drafters for Speculative Decoding", arXiv:2506.01206; UCB1 of
Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log, sqrt

from draftpool.tree import NO_DRAFT, TreeShape


@dataclass(frozen=True)
class RoundOutcome:
    """What a round cost and brought.

    Attributes:
        shape: the shape that was asked for.
        num_tokens: tokens emitted, the bonus token included; at least 1.
        round_s: the whole round, as the orchestrator saw it, in seconds.
        draft_s: its share spent waiting for the draft, in seconds.
        verify_s: its share spent waiting for the verifier, in seconds.
    """

    shape: TreeShape
    num_tokens: int
    round_s: float
    draft_s: float
    verify_s: float


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


Reward = Callable[[RoundOutcome, float], float]
"""(outcome, seconds of a plain decoding round) to a reward of which more is better; plain decoding scores about -1."""

_WORST_REWARD = -3.0
"""One stalled round must not bury a good shape: rewards are cut off here, which also bounds UCB1's confidence term."""


def measured_reward(outcome: RoundOutcome, plain_round_s: float) -> float:
    """Seconds a token, in units of a plain round: sees the network, batching and load as well as the models."""
    return max(_WORST_REWARD, -outcome.round_s / (outcome.num_tokens * plain_round_s))


def paper_reward(outcome: RoundOutcome, plain_round_s: float) -> float:
    """r = -(1/N + lambda * depth / N), N tokens in the round, lambda the cost of one level in plain rounds.

    The paper fixes lambda for a pair of models; here it is measured in the round itself.

    Source: arXiv:2506.01206.
    """
    return max(_WORST_REWARD, -(1 + outcome.draft_s / plain_round_s) / outcome.num_tokens)


@dataclass
class _Arm:
    num_rounds: int = 0
    total_reward: float = 0.0

    @property
    def mean_reward(self) -> float:
        return self.total_reward / self.num_rounds


@dataclass
class TreeBandit:
    """UCB1 over tree shapes.

    Every arm is tried once, plain decoding first because the others are measured in its rounds; then the arm
    with the largest mean + exploration * sqrt(2 ln(total) / rounds).
    """

    arms: Sequence[TreeShape]
    reward: Reward
    exploration: float
    _stats: dict[TreeShape, _Arm] = field(init=False)
    _plain_round_s: RunningMean = field(init=False, default_factory=RunningMean)

    def __post_init__(self) -> None:
        self._stats = {arm: _Arm() for arm in dict.fromkeys([NO_DRAFT, *self.arms])}

    @property
    def means(self) -> dict[TreeShape, float | None]:
        """Every arm's mean reward; None for one not tried yet."""
        return {shape: arm.mean_reward if arm.num_rounds else None for shape, arm in self._stats.items()}

    def choose(self) -> TreeShape:
        for shape, arm in self._stats.items():
            if arm.num_rounds == 0:
                return shape
        total = sum(arm.num_rounds for arm in self._stats.values())
        return max(self._stats, key=lambda shape: self._upper_bound(self._stats[shape], total))

    def observe(self, outcome: RoundOutcome) -> None:
        """Learn from a round; shapes that are no arm of this bandit teach nothing."""
        if outcome.shape == NO_DRAFT:
            self._plain_round_s.add(outcome.round_s)
        if outcome.shape in self._stats and self._plain_round_s.value is not None:
            arm = self._stats[outcome.shape]
            arm.num_rounds += 1
            arm.total_reward += self.reward(outcome, self._plain_round_s.value)

    def _upper_bound(self, arm: _Arm, total_rounds: int) -> float:
        return arm.mean_reward + self.exploration * sqrt(2 * log(total_rounds) / arm.num_rounds)


class BanditRegistry:
    """One bandit for each situation in which another shape may pay: the target, and greedy or sampled."""

    def __init__(self, arms: Sequence[TreeShape], reward: Reward, exploration: float) -> None:
        self._arms = arms
        self._reward = reward
        self._exploration = exploration
        self._bandits: dict[tuple[str, str], TreeBandit] = {}

    def bandit(self, target: str, sampling_class: str, max_tree_nodes: int) -> TreeBandit:
        """The situation's bandit; a new one has the arms that the target's verifiers take."""
        key = (target, sampling_class)
        if key not in self._bandits:
            arms = [arm for arm in self._arms if arm.num_nodes <= max_tree_nodes]
            self._bandits[key] = TreeBandit(arms, self._reward, self._exploration)
        return self._bandits[key]
