"""Bad input gets a precise status and sentence, frees what it held, and costs nobody else anything."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest

from draftpool import errors
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, TreeShape
from draftpool.rpc.channel import open_channel
from draftpool.rpc.status import from_rpc_error
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, sampling_pb2, tree_pb2, verifier_pb2, verifier_pb2_grpc
from tests.integration.probes import QUESTION, all_sessions_are_freed, held_memory, open_sessions

pytestmark = pytest.mark.asyncio(loop_scope="session")

GREEDY = sampling_pb2.SamplingParams(temperature=0)


@pytest.mark.parametrize(
    ("request_", "error", "sentence"),
    [
        ({"prompt": ""}, errors.EmptyContext, "prompt is empty"),
        ({"prompt": [5] * 5000}, errors.ContextTooLong, "the prompt has 5000 tokens; tiny-llama takes 2048"),
        ({"model": "gpt-17"}, errors.UnknownModel, "no target is called 'gpt-17'; served here: tiny-llama, tiny-neox"),
        ({"temperature": -1.0}, errors.BadParameter, "temperature must be between 0"),
        ({"temperature": float("nan")}, errors.BadParameter, "temperature must be between 0"),
        ({"top_p": 0.0}, errors.BadParameter, "top_p must be above 0"),
        ({"max_new_tokens": 0}, errors.BadParameter, "max_new_tokens must be at least 1"),
        ({"stop": [""]}, errors.BadParameter, "stop string must not be empty"),
        ({"prompt": [3, 10**6]}, errors.TokenOutOfVocabulary, "token id 1000000 is not below tiny-llama's 8192"),
        ({"resume_token_ids": [5]}, errors.BadParameter, "resume_token_ids needs the seed that GenerationStart told"),
        ({"resume_token_ids": [5] * 5, "seed": 1}, errors.BadParameter, "holds 5 tokens, but the answer has at most 4"),
        ({"resume_token_ids": [8192], "seed": 1}, errors.TokenOutOfVocabulary, "8192 is not below tiny-llama's 8192"),
        ({"drafting": TreeShape((64, 64, 64))}, errors.BadParameter, "nodes; tiny-llama verifies at most"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_a_bad_request_is_refused_precisely(
    client: Client, stack: Stack, request_: dict, error: type[errors.DraftpoolError], sentence: str
) -> None:
    asked = {"model": "tiny-llama", "prompt": QUESTION, "max_new_tokens": 4} | request_
    with pytest.raises(error) as refused:
        await client.complete(asked.pop("model"), asked.pop("prompt"), **asked)
    assert type(refused.value) is error
    assert sentence in refused.value.message
    assert await all_sessions_are_freed(stack)


def verify(committed: list[int], tree: tree_pb2.DraftTree | None = None, *, opens: bool = True):
    session = verifier_pb2.VerifySession(sampling=GREEDY) if opens else None
    return verifier_pb2.VerifyRequest(session=session, committed_token_ids=committed, tree=tree)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([verify([])], errors.EmptyContext),
        ([verify([1, 8192])], errors.TokenOutOfVocabulary),
        ([verify([1], tree_pb2.DraftTree(token_ids=[9000], parents=[-1]))], errors.TokenOutOfVocabulary),
        ([verify([1], tree_pb2.DraftTree(token_ids=[1, 2], parents=[-1]))], errors.MalformedTree),
        ([verify([1], tree_pb2.DraftTree(token_ids=[1, 2], parents=[1, -1]))], errors.MalformedTree),
        ([verify([1], tree_pb2.DraftTree(token_ids=[1], parents=[-2]))], errors.MalformedTree),
        ([verify([1], tree_pb2.DraftTree(token_ids=[1, 1], parents=[-1, -1]))], errors.MalformedTree),
        ([verify([1] * 3000)], errors.ContextTooLong),
        ([verify([1], opens=False)], errors.BrokenProtocol),
        ([verify([1]), verify([2])], errors.BrokenProtocol),
        ([verify([1]), verify([], opens=False)], errors.InvalidRequest),
    ],
)
async def test_the_verifier_refuses_what_breaks_its_contract(stack: Stack, messages: list, error: type) -> None:
    async with open_channel(stack.verifiers["tiny-llama"][0]) as channel:
        call = verifier_pb2_grpc.VerifierStub(channel).Verify()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            for message in messages:
                await call.write(message)
                await call.read()
    assert isinstance(from_rpc_error(refused.value), error)
    assert await all_sessions_are_freed(stack)


async def test_a_verifier_without_a_seed_refuses_to_sample(stack: Stack) -> None:
    async with open_channel(stack.verifiers["tiny-llama"][0]) as channel:
        call = verifier_pb2_grpc.VerifierStub(channel).Verify()
        message = verify([1])
        message.session.sampling.temperature = 1
        with pytest.raises(grpc.aio.AioRpcError, match="seed"):
            await call.write(message)
            await call.read()


async def test_a_drafter_names_a_vocabulary_it_was_not_taught(stack: Stack) -> None:
    async with open_channel(stack.drafters[0]) as channel:
        call = drafter_pb2_grpc.DrafterStub(channel).Draft()
        session = drafter_pb2.DraftSession(vocabulary_fingerprint="f" * 64, sampling=GREEDY)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.write(drafter_pb2.DraftRequest(session=session, committed_token_ids=[1]))
            await call.read()
    assert isinstance(from_rpc_error(refused.value), errors.UnknownVocabulary)


async def test_an_abandoned_generation_frees_both_sessions(client: Client, stack: Stack) -> None:
    generation = client.generate("tiny-llama", QUESTION, ignore_eos=True, max_new_tokens=1500)
    for _ in range(12):
        await anext(generation)
    assert await open_sessions(stack) == 2
    assert await held_memory(stack) > 1  # a state slot and at least a page
    await generation.aclose()
    assert await all_sessions_are_freed(stack)


async def test_a_passed_deadline_says_so_and_frees_both_sessions(client: Client, stack: Stack) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await client.complete("tiny-neox", QUESTION, ignore_eos=True, max_new_tokens=1500, timeout_s=0.3)
    assert await all_sessions_are_freed(stack)


ENDLESS_CLIENT = """
import asyncio, sys
from draftpool.client import Client

async def main():
    async with Client(sys.argv[1]) as client:
        async for event in client.generate("tiny-llama", "Question:", ignore_eos=True, max_new_tokens=1900):
            print(event, flush=True)

asyncio.run(main())
"""


async def test_a_killed_client_frees_both_sessions(stack: Stack) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_CLIENT, stack.orchestrator], stdout=subprocess.PIPE, text=True
    )
    for _ in range(5):
        await asyncio.to_thread(process.stdout.readline)
    assert await open_sessions(stack) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert await all_sessions_are_freed(stack)


async def test_bad_neighbours_change_nobodys_tokens(client: Client, stack: Stack) -> None:
    calm = await client.complete("tiny-llama", QUESTION, max_new_tokens=64, temperature=1, seed=3, drafting=NO_DRAFT)

    async def disturb(provoke: Callable) -> None:
        for _ in range(5):
            with pytest.raises(errors.DraftpoolError):
                await provoke()

    disturbed, *_ = await asyncio.gather(
        client.complete("tiny-llama", QUESTION, max_new_tokens=64, temperature=1, seed=3),
        disturb(lambda: client.complete("tiny-llama", [1, 10**6])),
        disturb(lambda: client.complete("tiny-llama", QUESTION, max_new_tokens=2000, timeout_s=0.05)),
        disturb(lambda: client.complete("tiny-llama", QUESTION, temperature=-1.0)),
    )
    assert disturbed.token_ids == calm.token_ids
    assert await all_sessions_are_freed(stack)
