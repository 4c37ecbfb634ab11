"""What an orchestrator has learned about draft trees, as a client receives it."""

from __future__ import annotations

from dataclasses import dataclass

from draftpool.tree_policy import TreePolicy
from draftpool.v1 import bandit_pb2
from draftpool.wire import policy_from_wire


@dataclass(frozen=True)
class LearnedArm:
    """A tree policy under one load.

    Attributes:
        num_rounds: that told of it; old ones count for less.
        num_tokens, num_nodes, depth: expected of a round, the bonus token included.
        round_s: expected of a round, in seconds.
        reward: -1 for plain decoding; what is maximised.
        std_error: of the reward.
        index: what the bandit makes of both; the arm with the largest is played.
    """

    policy: TreePolicy
    num_rounds: float
    num_tokens: float
    num_nodes: float
    depth: float
    round_s: float
    reward: float
    std_error: float
    index: float


@dataclass(frozen=True)
class LearnedLoad:
    """Everything under one load.

    Attributes:
        min_sessions, max_sessions: open at the verifier.
        is_current: whether the last round was one of these.
        num_rounds: timed; old ones count for less, and those of sessions that share passes together as one.
        plain_round_s: expected of a round without a draft, in seconds.
        arms: the one that would be chosen now first.
    """

    min_sessions: int
    max_sessions: int
    is_current: bool
    num_rounds: float
    plain_round_s: float
    arms: tuple[LearnedArm, ...]


@dataclass(frozen=True)
class LearnedSituation:
    """Requests that share what they learn.

    Attributes:
        sampling: the class of sampling.
        loads: lightest first.
    """

    target: str
    drafter: str
    sampling: str
    loads: tuple[LearnedLoad, ...]


def learned_from_wire(message: bandit_pb2.BanditSituation) -> LearnedSituation:
    return LearnedSituation(message.target, message.drafter, message.sampling, tuple(map(_load, message.loads)))


def _load(message: bandit_pb2.BanditLoad) -> LearnedLoad:
    return LearnedLoad(
        min_sessions=message.min_sessions,
        max_sessions=message.max_sessions,
        is_current=message.is_current,
        num_rounds=message.num_rounds,
        plain_round_s=message.plain_round_s,
        arms=tuple(map(_arm, message.arms)),
    )


def _arm(message: bandit_pb2.BanditArm) -> LearnedArm:
    return LearnedArm(
        policy=policy_from_wire(message.policy),
        num_rounds=message.num_rounds,
        num_tokens=message.num_tokens,
        num_nodes=message.num_nodes,
        depth=message.depth,
        round_s=message.round_s,
        reward=message.reward,
        std_error=message.std_error,
        index=message.index,
    )
