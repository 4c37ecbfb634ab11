"""Policies on planted arms."""

import random
from collections.abc import Callable
from math import sqrt

import pytest

from draftpool.tree import NO_DRAFT, chain
from draftpool.tree_policy import TreePolicy
from orchestrator.bandit.policies import Estimate, Fixed, Policy, Thompson, Ucb1, UcbTuned, choose

REWARDS = {NO_DRAFT: -1.0, chain(2): -0.7, chain(3): -0.6, chain(4): -0.75}
SPREAD = 0.3
POLICIES: dict[str, Callable[[], Policy]] = {
    "ucb1": lambda: Ucb1(0.15),
    "ucb_tuned": lambda: UcbTuned(0.5),
    "thompson": lambda: Thompson(1.0, random.Random(1)),
}


class Plays:
    """Bandit feedback alone: an arm's rewards are seen when it is played."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.seen: dict[TreePolicy, list[float]] = {arm: [] for arm in REWARDS}

    def play(self, policy: Policy) -> TreePolicy:
        arm = choose(policy, [self._estimate(arm) for arm in REWARDS])
        self.seen[arm].append(self._rng.gauss(REWARDS[arm], SPREAD))
        return arm

    def _estimate(self, arm: TreePolicy) -> Estimate:
        seen = self.seen[arm]
        return Estimate(arm, sum([-0.7, *seen]) / (1 + len(seen)), SPREAD / sqrt(1 + len(seen)), len(seen))


@pytest.mark.parametrize("name", POLICIES)
def test_the_best_of_planted_arms_is_played_most(name: str) -> None:
    for seed in range(5):
        policy, plays = POLICIES[name](), Plays(seed)
        choices = [plays.play(policy) for _ in range(3000)]
        assert choices[1500:].count(chain(3)) > 0.8 * 1500
        assert len(set(choices)) > 1


def test_a_fixed_arm_stays_whatever_is_known() -> None:
    estimates = [Estimate(arm, reward, 0.1, 10) for arm, reward in REWARDS.items()]
    assert choose(Fixed(NO_DRAFT), estimates) == NO_DRAFT


@pytest.mark.parametrize("policy", [Ucb1(0.5), UcbTuned(2.0)])
def test_what_is_uncertain_is_tried_before_what_is_a_little_better(policy: Policy) -> None:
    known, unknown = Estimate(chain(2), -0.6, 0.01, 1000), Estimate(chain(3), -0.65, 0.3, 1)
    assert choose(policy, [known, unknown]) == chain(3)


def test_without_curiosity_the_best_known_is_played() -> None:
    estimates = [Estimate(arm, reward, 1.0, 0) for arm, reward in REWARDS.items()]
    assert choose(UcbTuned(0), estimates) == choose(Ucb1(0), estimates) == chain(3)
