import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from drafter_service.replica import DrafterReplica
from drafter_service.server import drafter_service
from drafter_service.settings import DrafterSettings
from drafter_service.vocabulary.vocabularies import BridgeRegistry
from draftpool import wire
from draftpool.errors import (
    BadParameter,
    BrokenProtocol,
    DraftpoolError,
    EmptyContext,
    ModelNotServable,
    NoCapacity,
    TokenOutOfVocabulary,
    UnknownVocabulary,
    Unsupported,
)
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.status import from_rpc_error
from draftpool.sampling import SamplingParams
from draftpool.tree import TreeShape
from draftpool.tree_policy import BestFirst
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, sampling_pb2
from draftpool.vocabulary import Vocabulary

SHAPE = TreeShape((2, 2, 1))
CONTEXT = [72, 80, 11]
Stub = Any  # the generated stubs carry no types


@pytest.fixture
def replica(checkpoint: Path) -> Iterator[DrafterReplica]:
    replica = DrafterReplica(DrafterSettings(model=str(checkpoint), name="tiny", max_sessions=2, state_memory_mib=1))
    yield replica
    replica.close()


@pytest.fixture
async def stub(replica: DrafterReplica) -> AsyncIterator[Stub]:
    server = grpc.aio.server(interceptors=[MannersInterceptor()])
    drafter_service(replica).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield drafter_pb2_grpc.DrafterStub(channel)
    await server.stop(None)


@pytest.fixture
async def registered(stub: Stub, target_vocabulary: Vocabulary) -> str:
    await stub.RegisterVocabulary(_registration(target_vocabulary))
    return target_vocabulary.fingerprint


def _registration(vocabulary: Vocabulary) -> drafter_pb2.RegisterVocabularyRequest:
    return drafter_pb2.RegisterVocabularyRequest(vocabulary=wire.vocabulary_to_wire(vocabulary))


def _opening(
    fingerprint: str, context: Sequence[int] = CONTEXT, shape: TreeShape = SHAPE, **sampling: float
) -> drafter_pb2.DraftRequest:
    params = SamplingParams(**({"temperature": 0} | sampling))
    session = drafter_pb2.DraftSession(vocabulary_fingerprint=fingerprint, sampling=wire.sampling_to_wire(params))
    return drafter_pb2.DraftRequest(session=session, committed_token_ids=context, policy=wire.policy_to_wire(shape))


def _later(committed: Sequence[int]) -> drafter_pb2.DraftRequest:
    return drafter_pb2.DraftRequest(committed_token_ids=committed, policy=wire.policy_to_wire(SHAPE))


async def _error_of(stub: Stub, *requests: drafter_pb2.DraftRequest) -> DraftpoolError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Draft(iter(requests)):
            pass
    return from_rpc_error(caught.value)


async def _until_free(replica: DrafterReplica) -> None:
    async with asyncio.timeout(5):
        while replica.pool.num_used:
            await asyncio.sleep(0.01)


async def test_every_request_of_a_stream_gets_one_reply(stub: Stub, registered: str) -> None:
    call = stub.Draft()
    await call.write(_opening(registered))
    first = await call.read()
    assert len(first.tree.token_ids) == SHAPE.num_nodes
    assert first.load.num_sessions == 1
    assert first.timings.draft_us > 0
    await call.write(_later([first.tree.token_ids[0], 7]))
    assert len((await call.read()).tree.token_ids) == SHAPE.num_nodes
    await call.write(drafter_pb2.DraftRequest(committed_token_ids=[9]))  # advance only
    assert len((await call.read()).tree.token_ids) == 0
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_a_later_message_drafts_what_a_fresh_stream_drafts(stub: Stub, registered: str) -> None:
    sampled = {"temperature": 0.8, "seed": 11}
    async for reply in stub.Draft(iter([_opening(registered, **sampled), _later([5, 6])])):
        last = reply.tree
    async for reply in stub.Draft(iter([_opening(registered, [*CONTEXT, 5, 6], **sampled)])):
        assert reply.tree == last


async def test_the_memory_of_a_stream_is_free_when_it_ends_however_it_ends(
    stub: Stub, replica: DrafterReplica, registered: str
) -> None:
    async for _ in stub.Draft(iter([_opening(registered)])):
        pass
    await _until_free(replica)
    call = stub.Draft()
    await call.write(_opening(registered))
    await call.read()
    assert replica.pool.num_used > 1
    call.cancel()
    await _until_free(replica)
    await _error_of(stub, _opening(registered), _later([4000]))
    await _until_free(replica)
    replica.pool.check_integrity([])


async def test_a_bad_message_gets_a_precise_error(stub: Stub, registered: str) -> None:
    no_seed = _opening(registered)
    no_seed.session.sampling.temperature = 1
    no_seed.session.sampling.ClearField("seed")
    unknown_rule = _opening(registered)
    unknown_rule.session.acceptance_rule = 99
    for requests, error_class in (
        ([_opening("nobody's")], UnknownVocabulary),
        ([_later([5])], BrokenProtocol),
        ([_opening(registered), _opening(registered)], BrokenProtocol),
        ([_opening(registered, [])], EmptyContext),
        ([_opening(registered, [400])], TokenOutOfVocabulary),
        ([_opening(registered, shape=TreeShape((65,)))], BadParameter),
        ([no_seed], BadParameter),
        ([unknown_rule], Unsupported),
    ):
        assert type(await _error_of(stub, *requests)) is error_class


async def test_one_session_too_many_is_told_when_to_come_back(stub: Stub, registered: str) -> None:
    calls = [stub.Draft() for _ in range(2)]
    for call in calls:
        await call.write(_opening(registered))
        await call.read()
    error = await _error_of(stub, _opening(registered))
    assert isinstance(error, NoCapacity)
    assert error.retry_after_s
    for call in calls:
        call.cancel()


async def test_registration_says_how_much_is_shared_and_may_be_repeated(
    stub: Stub, target_vocabulary: Vocabulary
) -> None:
    replies = [await stub.RegisterVocabulary(_registration(target_vocabulary)) for _ in range(2)]
    assert replies[0] == replies[1]
    assert 256 < replies[0].num_shared_tokens < replies[0].num_target_tokens == len(target_vocabulary)


async def test_describe_says_what_the_replica_runs(stub: Stub, replica: DrafterReplica) -> None:
    description = await stub.Describe(drafter_pb2.DescribeDrafterRequest())
    assert description.model == "tiny"
    assert description.num_parameters == replica.model.num_parameters > 0
    assert description.session_state_bytes == replica.model.slot_bytes > 0
    assert description.max_tree_nodes == 64
    assert description.load.max_sessions == 2


async def test_asked_for_its_load_alone_it_tells_nothing_else(stub: Stub) -> None:
    description = await stub.Describe(drafter_pb2.DescribeDrafterRequest(load_only=True))
    assert description == drafter_pb2.DescribeDrafterReply(load=description.load)
    assert description.load.max_sessions == 2


def test_the_vocabulary_used_least_recently_goes_first(other_bridge: Any, same_bridge: Any) -> None:
    registry = BridgeRegistry(max_vocabularies=1)
    registry.add(same_bridge)
    registry.add(other_bridge)
    assert registry.get(other_bridge.target.fingerprint) is other_bridge
    with pytest.raises(UnknownVocabulary, match="RegisterVocabulary"):
        registry.get(same_bridge.target.fingerprint)


def test_memory_that_cannot_hold_the_sessions_promised_is_said_at_start(checkpoint: Path) -> None:
    with pytest.raises(ModelNotServable, match="max_sessions"):
        DrafterReplica(DrafterSettings(model=str(checkpoint), max_sessions=10_000, state_memory_mib=1))


def test_settings_come_from_the_environment_and_unknown_ones_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTPOOL_DRAFTER_MODEL", "state-spaces/mamba-130m-hf")
    assert DrafterSettings().display_name == "mamba-130m-hf"
    with pytest.raises(ValueError, match="sessions_max"):
        DrafterSettings(sessions_max=3)


async def test_for_the_rejection_rule_every_inner_node_says_what_its_children_were_drawn_from(
    stub: Stub, registered: str
) -> None:
    opening = _opening(registered, temperature=0.9, seed=3)
    opening.session.acceptance_rule = sampling_pb2.ACCEPTANCE_RULE_REJECTION
    call = stub.Draft()
    await call.write(opening)
    reply = await call.read()
    tree = wire.tree_from_wire(reply.tree)
    rows = reply.draft_probs
    assert len(rows.row_lengths) == tree.num_nodes + 1
    assert sum(rows.row_lengths) == len(rows.token_ids) == len(rows.probs)
    start = 0
    for parent, length in zip(range(-1, tree.num_nodes), rows.row_lengths, strict=True):
        children = {tree.token_ids[node] for node in range(tree.num_nodes) if tree.parents[node] == parent}
        own = slice(start, start + length)
        assert children <= set(rows.token_ids[own])
        assert not children or sum(rows.probs[own]) == pytest.approx(1, abs=1e-5)
        assert bool(children) == bool(length)
        start += length
    call.cancel()


async def test_best_first_trees_are_refused_for_the_rejection_rule(stub: Stub, registered: str) -> None:
    opening = _opening(registered, temperature=0.9, seed=3)
    opening.session.acceptance_rule = sampling_pb2.ACCEPTANCE_RULE_REJECTION
    opening.policy.CopyFrom(wire.policy_to_wire(BestFirst(8, 4)))
    error = await _error_of(stub, opening)
    assert isinstance(error, BadParameter)
    assert "fixed branching" in error.message


async def test_best_first_trees_keep_their_budget(stub: Stub, registered: str) -> None:
    opening = _opening(registered, temperature=0.9, seed=3)
    opening.policy.CopyFrom(wire.policy_to_wire(BestFirst(8, 4)))
    call = stub.Draft()
    await call.write(opening)
    tree = wire.tree_from_wire((await call.read()).tree)
    assert 0 < tree.num_nodes <= 8
    assert tree.depth <= 4
    call.cancel()
