"""What was learned arrives at a client as it stands, over real gRPC."""

import grpc
import pytest

from draftpool.client import Client, LearnedLoad
from draftpool.tree import DraftTree, chain
from draftpool.v1 import bandit_pb2_grpc
from orchestrator.bandit import BanditRegistry, LocalSums, Method, RoundOutcome, Situation, VerifiedTree
from orchestrator.bandit_servicer import BanditServicer

OUTCOME = RoundOutcome(VerifiedTree(chain(2), DraftTree((1, 2), (-1, 0)), (0,), 2), 0.02, 0.005, 0.014, num_sessions=5)


async def test_a_client_sees_the_arms_of_every_load_best_index_first() -> None:
    bandits = BanditRegistry((chain(1), chain(2)), LocalSums(), Method())
    bandit = bandits.bandit(Situation("target", "drafter", "greedy"), 16)
    bandit.observe(OUTCOME)
    server = grpc.aio.server()
    bandit_pb2_grpc.add_BanditServicer_to_server(BanditServicer(bandits), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}") as client:
        (learned,) = await client.describe_bandit()
    await server.stop(None)
    assert (learned.target, learned.drafter, learned.sampling) == ("target", "drafter", "greedy")
    (load,) = learned.loads
    assert isinstance(load, LearnedLoad)
    assert (load.min_sessions, load.max_sessions, load.is_current) == (4, 7, True)
    assert load.num_rounds == pytest.approx(1 / 5)
    assert load.arms[0].policy == bandit.choose()
    assert {str(arm.policy): arm.num_rounds for arm in load.arms} == {"no draft": 1, "chain of 1": 1, "chain of 2": 1}
