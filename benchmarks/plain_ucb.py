"""UCB1 with bandit feedback: what there is to compare with. An arm's rounds tell of that arm and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, sqrt

from draftpool.tree import NO_DRAFT
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit import RoundOutcome

_MAX_ROUNDS = 8.0
"""Plain rounds that a round counts as, at most."""


@dataclass
class _Arm:
    num_rounds: int = 0
    plain_rounds: float = 0.0
    num_tokens: int = 0

    @property
    def reward(self) -> float:
        return -self.plain_rounds / self.num_tokens


@dataclass
class PlainUcb:
    """Every arm some rounds, plain decoding first; then the largest reward + exploration * sqrt(2 ln(all) / rounds)."""

    arms: Sequence[TreePolicy]
    exploration: float
    num_first_rounds: int = 3
    _stats: dict[TreePolicy, _Arm] = field(init=False)
    _plain_s: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._stats = {arm: _Arm() for arm in dict.fromkeys([NO_DRAFT, *self.arms])}

    def release(self) -> None:
        pass

    def choose(self) -> TreePolicy:
        for shape, arm in self._stats.items():
            if arm.num_rounds < self.num_first_rounds:
                return shape
        total = sum(arm.num_rounds for arm in self._stats.values())
        return max(self._stats, key=lambda shape: self._bound(self._stats[shape], total))

    def observe(self, outcome: RoundOutcome) -> None:
        policy = outcome.verified.policy
        if policy == NO_DRAFT:
            self._plain_s.append(outcome.round_s)
        arm, plain_s = self._stats[policy], sum(self._plain_s) / len(self._plain_s)
        arm.num_rounds += 1
        arm.plain_rounds += min(_MAX_ROUNDS, outcome.round_s / plain_s)
        arm.num_tokens += outcome.verified.num_tokens

    def _bound(self, arm: _Arm, total: int) -> float:
        return arm.reward + self.exploration * sqrt(2 * log(total) / arm.num_rounds)
