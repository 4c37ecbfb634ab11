"""What the bandit maximises. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

from orchestrator.bandit.timing import RoundTimes
from orchestrator.bandit.yields import Yield

MAX_LOSS = 2.0
"""An arm twice as slow as plain decoding is as bad as any: rewards are bounded, and curiosity keeps its meaning."""


class Reward(NamedTuple):
    """An expected reward, in [-MAX_LOSS, 0], and the standard error of it."""

    value: float
    std_error: float


Pricing = Callable[[Yield, RoundTimes], Reward]
"""From what an arm brings and what rounds take to what it is worth; plain decoding is worth -1."""


def measured_reward(brought: Yield, times: RoundTimes) -> Reward:
    """Seconds a token, in plain rounds, negative: sees network, batching and load as well as the models.

    Expectations are divided, not quotients averaged: speed is all tokens over all time, and the mean of 1/N would
    punish arms whose N varies.
    """
    seconds, seconds_error = times.arm_seconds(brought.arm, brought.num_nodes, brought.depth)
    return _reward(seconds / times.plain_s / brought.num_tokens, brought, seconds_error)


def paper_reward(brought: Yield, times: RoundTimes) -> Reward:
    """The mean of 1/N + lambda * depth / N, negative; N tokens in the round, lambda the cost of a drafted level.

    The paper fixes lambda for a pair of models; here it is measured: a level's seconds over a verify pass's.

    Source: arXiv:2506.01206.
    """
    return _reward((1 + times.level_share * brought.depth) * brought.inverse_tokens, brought, 0.0)


def _reward(loss: float, brought: Yield, seconds_error: float) -> Reward:
    """Relative errors of a quotient add up in squares."""
    tokens_error = brought.tokens_variance / brought.num_tokens**2
    return Reward(-min(MAX_LOSS, loss), min(MAX_LOSS, loss) * sqrt(tokens_error + seconds_error**2))
