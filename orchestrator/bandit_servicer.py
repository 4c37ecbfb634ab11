"""What the bandit has learned, on the wire."""

from __future__ import annotations

from typing import Any

import grpc

from draftpool.v1 import bandit_pb2, bandit_pb2_grpc
from draftpool.wire import policy_to_wire
from orchestrator.bandit import BanditRegistry, TreeBandit
from orchestrator.bandit.tree_bandit import ArmState, LoadState


class BanditServicer(bandit_pb2_grpc.BanditServicer):
    """Serves `draftpool.v1.Bandit`."""

    def __init__(self, bandits: BanditRegistry) -> None:
        self._bandits = bandits

    async def DescribeBandit(  # noqa: N802
        self, _request: bandit_pb2.DescribeBanditRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> bandit_pb2.DescribeBanditReply:
        known = [bandit for bandit in self._bandits.bandits if bandit.known_loads]
        return bandit_pb2.DescribeBanditReply(situations=map(_situation, known))


def _situation(bandit: TreeBandit) -> bandit_pb2.BanditSituation:
    return bandit_pb2.BanditSituation(
        target=bandit.situation.target,
        drafter=bandit.situation.drafter,
        sampling=bandit.situation.sampling,
        loads=[_load(bandit.state(known), is_current=known == bandit.load_class) for known in bandit.known_loads],
    )


def _load(state: LoadState, *, is_current: bool) -> bandit_pb2.BanditLoad:
    return bandit_pb2.BanditLoad(
        min_sessions=1 << (state.load_class - 1),
        max_sessions=(1 << state.load_class) - 1,
        is_current=is_current,
        num_rounds=state.num_rounds,
        plain_round_s=state.plain_round_s,
        arms=map(_arm, state.arms),
    )


def _arm(state: ArmState) -> bandit_pb2.BanditArm:
    return bandit_pb2.BanditArm(
        policy=policy_to_wire(state.estimate.arm),
        num_rounds=state.estimate.num_rounds,
        num_tokens=state.brought.num_tokens,
        num_nodes=state.brought.num_nodes,
        depth=state.brought.depth,
        round_s=state.round_s,
        reward=state.estimate.reward,
        std_error=state.estimate.std_error,
        index=state.index,
    )
