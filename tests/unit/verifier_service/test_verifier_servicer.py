"""The wire contract, over real gRPC on loopback."""

import asyncio
from pathlib import Path

import grpc
import pytest

from draftpool import wire
from draftpool.errors import (
    BadParameter,
    BrokenProtocol,
    EmptyContext,
    MalformedTree,
    NoCapacity,
    TokenOutOfVocabulary,
    Unsupported,
)
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.status import from_rpc_error
from draftpool.sampling import Grammar, SamplingParams
from draftpool.tree import DraftTree
from draftpool.v1 import sampling_pb2, tree_pb2, verifier_pb2, verifier_pb2_grpc
from verifier_service.choosing import Chooser
from verifier_service.job import VerifyJob
from verifier_service.replica import VerifierReplica
from verifier_service.server import verifier_service
from verifier_service.settings import VerifierSettings

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.9, top_p=0.9, seed=5)
TREE = DraftTree((1, 2, 3), (-1, 0, -1))


@pytest.fixture
def replica(llama_folder: Path):
    settings = VerifierSettings(
        model=str(llama_folder), dtype="float32", kv_tokens=256, max_sessions=2, max_tree_nodes=32
    )
    replica = VerifierReplica(settings)
    yield replica
    replica.close()


@pytest.fixture
async def stub(replica):
    server = grpc.aio.server(interceptors=[MannersInterceptor()])
    verifier_service(replica).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield verifier_pb2_grpc.VerifierStub(channel)
    await server.stop(None)


def opening(context, params=GREEDY, tree=None, **session) -> verifier_pb2.VerifyRequest:
    return verifier_pb2.VerifyRequest(
        session=verifier_pb2.VerifySession(sampling=wire.sampling_to_wire(params), **session),
        committed_token_ids=context,
        tree=None if tree is None else wire.tree_to_wire(tree),
    )


def later(committed, tree=None) -> verifier_pb2.VerifyRequest:
    return verifier_pb2.VerifyRequest(
        committed_token_ids=committed, tree=None if tree is None else wire.tree_to_wire(tree)
    )


REJECTION = sampling_pb2.ACCEPTANCE_RULE_REJECTION


def rejecting(context, params=WARM, tree=None, **session) -> verifier_pb2.VerifyRequest:
    return opening(context, params, tree, acceptance_rule=REJECTION, **session)


def drawn(committed, tree, row_lengths, token_ids, probs=()) -> verifier_pb2.VerifyRequest:
    request = later(committed, tree or None)
    request.draft_support.CopyFrom(tree_pb2.SparseRows(row_lengths=row_lengths, token_ids=list(token_ids), probs=probs))
    return request


async def replies_to(stub, *requests) -> list[verifier_pb2.VerifyReply]:
    return [reply async for reply in stub.Verify(iter(requests))]


async def error_of(stub, *requests):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await replies_to(stub, *requests)
    return from_rpc_error(raised.value)


async def until_free(replica) -> None:
    async with asyncio.timeout(5):
        while replica.pool.num_held or replica.engine.num_sessions:
            await asyncio.sleep(0.01)


async def test_every_request_gets_one_reply_with_a_token_for_every_node(stub, replica) -> None:
    first, second, third = await replies_to(stub, opening([5, 6], tree=TREE), later([1, 2, 9], tree=TREE), later([7]))
    assert [len(reply.chosen_token_ids) for reply in (first, second, third)] == [4, 4, 1]
    assert [reply.timings.num_computed_tokens for reply in (first, second, third)] == [5, 4, 1]
    assert first.timings.num_passes == 1
    assert first.timings.verify_us > 0
    assert first.load.num_sessions == 1
    assert first.load.max_sessions == 2
    assert not first.chosen_logprobs
    await until_free(replica)


async def test_a_stream_chooses_what_the_engine_chooses(stub, llama, make_engine, run_jobs) -> None:
    (reply,) = await replies_to(stub, opening([8, 9, 10], WARM, TREE, want_logprobs=True))
    engine = make_engine(llama)
    job = VerifyJob(engine.new_session(Chooser(WARM, 272)), [8, 9, 10], TREE, want_logprobs=True)
    (verdict,) = run_jobs(engine, job)
    assert tuple(reply.chosen_token_ids) == verdict.choice.token_ids
    assert tuple(reply.chosen_logprobs) == pytest.approx(verdict.choice.logprobs, abs=1e-4)


async def test_a_stream_opened_again_with_all_tokens_goes_on_as_the_lost_one_would(stub) -> None:
    *_, lost = await replies_to(stub, opening([5, 6], WARM, TREE), later([1, 2, 9], TREE))
    (anew,) = await replies_to(stub, opening([5, 6, 1, 2, 9], WARM, TREE))
    assert anew.chosen_token_ids == lost.chosen_token_ids


RULED = SamplingParams(
    temperature=0.9,
    seed=5,
    repetition_penalty=1.4,
    frequency_penalty=0.5,
    min_new_tokens=4,
    grammar=Grammar("regex", "[a-f]{3,9}"),
)


async def test_an_answer_half_done_goes_on_elsewhere_under_the_same_parameters(stub) -> None:
    call, answer = stub.Verify(), []
    await call.write(opening([5, 6], RULED, num_prompt_tokens=2))
    for _ in range(8):
        answer.append((await call.read()).chosen_token_ids[0])
        await call.write(later([answer[-1]]))
    call.cancel()
    for num_before in (1, 4, 7):
        request = opening([5, 6, *answer[:num_before]], RULED, num_prompt_tokens=2)
        (anew,) = await replies_to(stub, request)
        assert anew.chosen_token_ids == [answer[num_before]]


async def test_the_rejection_rule_gets_laws_and_no_choice(stub) -> None:
    first, plain = await replies_to(
        stub, rejecting([5, 6], want_logprobs=True), drawn([7], TREE, [2, 1, 0, 0], [1, 3, 2])
    )
    assert (len(first.outside_token_ids), list(first.target_probs.row_lengths)) == (1, [0])
    assert first.outside_probs == pytest.approx([1])
    assert not plain.chosen_token_ids
    assert list(plain.target_probs.row_lengths) == [2, 1, 0, 0]
    assert not plain.target_probs.token_ids
    lengths = (plain.target_probs.probs, plain.outside_token_ids, plain.outside_probs, plain.chosen_logprobs)
    assert [*map(len, lengths), len(plain.support_logprobs)] == [3, 4, 4, 4, 3]
    assert sum(plain.target_probs.probs[:2]) + plain.outside_probs[0] == pytest.approx(1)


async def test_the_rejection_rule_without_a_tree_gets_the_coupled_choice(stub) -> None:
    (reply,) = await replies_to(stub, rejecting([5, 6]))
    (coupled,) = await replies_to(stub, opening([5, 6], WARM))
    assert reply.outside_token_ids == coupled.chosen_token_ids


async def test_at_temperature_0_there_is_one_rule(stub) -> None:
    (reply,) = await replies_to(stub, rejecting([5, 6], GREEDY, TREE))
    (coupled,) = await replies_to(stub, opening([5, 6], GREEDY, TREE))
    assert reply.chosen_token_ids == coupled.chosen_token_ids
    assert not reply.outside_token_ids
    assert not reply.HasField("target_probs")


async def test_a_stream_of_the_rejection_rule_opened_again_goes_on_as_the_lost_one_would(stub) -> None:
    rows = ([2, 1, 0, 0], [1, 3, 2])
    *_, lost = await replies_to(stub, rejecting([5, 6], tree=TREE), drawn([1, 2, 9], TREE, *rows))
    request = rejecting([5, 6, 1, 2, 9], tree=TREE)
    request.draft_support.CopyFrom(tree_pb2.SparseRows(row_lengths=rows[0], token_ids=rows[1]))
    (anew,) = await replies_to(stub, request)
    assert anew.outside_token_ids == lost.outside_token_ids
    assert anew.target_probs.probs == pytest.approx(lost.target_probs.probs, rel=1e-4)


async def test_the_most_probable_tokens_come_with_every_choice(stub) -> None:
    (reply,) = await replies_to(stub, opening([5, 6], WARM, TREE, num_top_logprobs=3))
    assert len(reply.chosen_logprobs) == 4
    assert len(reply.top_token_ids) == len(reply.top_logprobs) == 12
    (greedy,) = await replies_to(stub, opening([5, 6], GREEDY, TREE))
    assert list(reply.top_token_ids[::3]) == list(greedy.chosen_token_ids)
    assert not greedy.top_token_ids


async def test_the_memory_of_a_cancelled_stream_is_free_at_once(stub, replica) -> None:
    call = stub.Verify()
    await call.write(opening([1, 2, 3], tree=TREE))
    await call.read()
    assert replica.pool.num_held == 1
    call.cancel()
    await until_free(replica)


BAD_STREAMS = {
    "no session": ([later([1])], BrokenProtocol),
    "two sessions": ([opening([1]), opening([2])], BrokenProtocol),
    "no context": ([opening([])], EmptyContext),
    "nothing committed": ([opening([1]), later([])], BadParameter),
    "unknown token": ([opening([1]), later([272])], TokenOutOfVocabulary),
    "broken tree": (
        [opening([1]), verifier_pb2.VerifyRequest(committed_token_ids=[1], tree=tree_pb2.DraftTree(token_ids=[1]))],
        MalformedTree,
    ),
    "bad sampling": (
        [
            verifier_pb2.VerifyRequest(
                session=verifier_pb2.VerifySession(sampling=sampling_pb2.SamplingParams(temperature=-1)),
                committed_token_ids=[1],
            )
        ],
        BadParameter,
    ),
    "no seed": (
        [verifier_pb2.VerifyRequest(session=verifier_pb2.VerifySession(), committed_token_ids=[1])],
        BadParameter,
    ),
    "more prompt than tokens": ([opening([1], num_prompt_tokens=2)], BadParameter),
    "too many log-probabilities": ([opening([1], num_top_logprobs=21)], BadParameter),
    "unknown stop token": ([opening([1], SamplingParams(temperature=0, stop_token_ids=(272,)))], TokenOutOfVocabulary),
    "nothing allowed": (
        [opening([1], SamplingParams(temperature=0, banned_token_ids=tuple(range(272))))],
        BadParameter,
    ),
    "broken regex": ([opening([1], SamplingParams(temperature=0, grammar=Grammar("regex", "a(b")))], BadParameter),
    "answer outside the grammar": (
        [opening([1, 2], SamplingParams(temperature=0, grammar=Grammar("regex", "é+")), num_prompt_tokens=1)],
        BadParameter,
    ),
    "unknown rule": ([opening([1], acceptance_rule=99)], Unsupported),
    "a support without the rule": ([opening([1], WARM), drawn([2], [], [1], [5])], BadParameter),
    "a support when greedy": ([opening([1], acceptance_rule=REJECTION), drawn([2], [], [1], [5])], BadParameter),
    "a support of other rows": ([rejecting([1]), drawn([2], [], [1, 1], [5, 6])], BadParameter),
    "a support with probabilities": ([rejecting([1]), drawn([2], [], [1], [5], [0.5])], BadParameter),
    "a support that does not add up": ([rejecting([1]), drawn([2], [], [2], [5])], BadParameter),
    "a support longer than the vocabulary": ([rejecting([1]), drawn([2], [], [300], range(300))], BadParameter),
    "a token twice": ([rejecting([1]), drawn([2], [], [2], [5, 5])], BadParameter),
    "a support of unknown tokens": ([rejecting([1]), drawn([2], [], [1], [272])], TokenOutOfVocabulary),
}


@pytest.mark.parametrize("case", BAD_STREAMS)
async def test_a_bad_request_gets_its_own_error_and_its_stream_frees_everything(case, stub, replica) -> None:
    requests, expected = BAD_STREAMS[case]
    assert type(await error_of(stub, *requests)) is expected
    await until_free(replica)


async def open_streams(stub, number):
    calls = [stub.Verify() for _ in range(number)]
    for call in calls:
        await call.write(opening([1]))
        await call.read()
    return calls


async def test_a_full_replica_says_when_to_come_back_before_the_callers_deadline(stub) -> None:
    calls = await open_streams(stub, 2)
    late = stub.Verify(timeout=0.5)
    await late.write(opening([1]))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await late.read()
    error = from_rpc_error(raised.value)
    assert type(error) is NoCapacity
    assert error.retry_after_s
    for call in calls:
        call.cancel()


async def test_a_request_waits_for_room_in_a_full_replica(stub) -> None:
    calls = await open_streams(stub, 2)
    waiting = asyncio.ensure_future(replies_to(stub, opening([1])))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    calls[0].cancel()
    (reply,) = await waiting
    assert len(reply.chosen_token_ids) == 1
    calls[1].cancel()


async def test_describe_tells_everything_an_orchestrator_needs(stub, llama) -> None:
    described = await stub.Describe(verifier_pb2.DescribeVerifierRequest())
    assert described.model == "tiny-llama"
    assert described.tokenizer_json.decode() == llama.tokenizer_json
    assert wire.vocabulary_from_wire(described.vocabulary) == llama.vocabulary
    assert (described.max_context_tokens, described.max_tree_nodes) == (128, 32)
    assert (described.dtype, described.architecture) == ("float32", "llama")
    assert described.num_parameters == llama.num_parameters
    assert described.load.max_sessions == 2


async def test_asked_for_its_load_alone_it_tells_how_busy_it_has_been_and_nothing_else(stub) -> None:
    only_load = verifier_pb2.DescribeVerifierRequest(load_only=True)
    before = (await stub.Describe(only_load)).load
    await replies_to(stub, opening([1, 2, 3]))
    async with asyncio.timeout(5):  # a turn is counted when it has ended, a moment after its answers
        while (after := await stub.Describe(only_load)).load.busy_share <= before.busy_share:
            await asyncio.sleep(0.01)
    assert after.load.budget_share > before.budget_share
    assert after == verifier_pb2.DescribeVerifierReply(load=after.load)
