"""Which arm to play, given what is known of each. Pure and pluggable.

A policy ranks: it gives every arm an index, and the arm with the largest is played. Rewards are about -1 for plain
decoding and lie in [-MAX_LOSS, 0], so that the weight of curiosity means the same everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

from draftpool.tree_policy import TreePolicy


class Estimate(NamedTuple):
    """What is known of an arm.

    Attributes:
        reward: the expected one.
        std_error: of it.
        num_rounds: that told of it, faded.
    """

    arm: TreePolicy
    reward: float
    std_error: float
    num_rounds: float


Policy = Callable[[Sequence[Estimate]], list[float]]
"""From what is known of the arms to their indices."""


def choose(policy: Policy, estimates: Sequence[Estimate]) -> TreePolicy:
    """The arm with the largest index, the first of equals."""
    indices = policy(estimates)
    return estimates[indices.index(max(indices))].arm


@dataclass(frozen=True)
class Ucb1:
    """Reward + exploration * sqrt(2 ln(all rounds) / rounds). Where evidence fades it is discounted UCB.

    Source: Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem", 2002; Garivier and
    Moulines, "On Upper-Confidence Bound Policies for Non-Stationary Bandit Problems", arXiv:0805.3415.
    """

    exploration: float

    def __call__(self, estimates: Sequence[Estimate]) -> list[float]:
        curiosity = self.exploration * sqrt(2 * _log_total(estimates))
        # The prior stands for a round, so an arm that nobody has tried is tried soon, but not at any price.
        return [known.reward + curiosity / sqrt(known.num_rounds + 1) for known in estimates]


@dataclass(frozen=True)
class UcbTuned:
    """Reward + exploration * standard error * sqrt(2 ln(all rounds)): curious about what is uncertain, not about what
    was played seldom; most of what is known of an arm here was learned from others.

    Source: UCB1-Tuned and UCB-V use the variance so; Audibert, Munos and Szepesvari, "Exploration-exploitation
    tradeoff using variance estimates in multi-armed bandits", 2009.
    """

    exploration: float

    def __call__(self, estimates: Sequence[Estimate]) -> list[float]:
        curiosity = self.exploration * sqrt(2 * _log_total(estimates))
        return [known.reward + curiosity * known.std_error for known in estimates]


@dataclass(frozen=True)
class Thompson:
    """A draw from what the reward may be: normal about the estimate, the standard error times exploration wide.

    Source: Thompson, "On the Likelihood that One Unknown Probability Exceeds Another", 1933; arXiv:1707.02038.
    """

    exploration: float
    rng: random.Random

    def __call__(self, estimates: Sequence[Estimate]) -> list[float]:
        return [self.rng.gauss(known.reward, self.exploration * known.std_error) for known in estimates]


@dataclass(frozen=True)
class Fixed:
    """One arm for ever, whatever is learned."""

    arm: TreePolicy

    def __call__(self, estimates: Sequence[Estimate]) -> list[float]:
        return [float(known.arm == self.arm) for known in estimates]


def _log_total(estimates: Sequence[Estimate]) -> float:
    return log(max(exp(1), sum(known.num_rounds for known in estimates)))
