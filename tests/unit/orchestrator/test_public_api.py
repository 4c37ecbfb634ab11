"""Requests, turns and usage over real gRPC, with fake model services behind."""

import asyncio
import re
from itertools import count

import grpc
import pytest

from draftpool.client import NO_DRAFT, Client, Patience
from draftpool.errors import BadParameter, NoCapacity
from draftpool.rpc.status import from_rpc_error
from draftpool.tree import chain
from draftpool.v1 import generation_pb2, generation_pb2_grpc
from orchestrator import metrics
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, until
from tests.unit.orchestrator.serving import orchestrator_of


async def test_usage_says_what_a_request_took() -> None:
    verifier, drafter = FakeVerifier(always=busy), FakeDrafter()
    async with (
        orchestrator_of(verifier, drafter, draft_least_wait_s=2, draft_first_wait_s=2) as address,
        Client(address) as client,
    ):
        completion = await client.complete("alphabet", "ab", max_new_tokens=12, drafting=chain(3))
    usage = completion.finish.usage
    assert (usage.num_prompt_tokens, usage.num_new_tokens, usage.num_resumed_tokens) == (2, 12, 0)
    assert (usage.num_rounds, usage.tokens_per_pass) == (3, 4)
    assert (usage.num_drafted_nodes, usage.num_accepted_tokens) == (9, 9)
    assert (usage.num_draft_sessions, usage.num_verify_sessions) == (1, 1)
    assert 0 < usage.prefill_us < usage.verify_us
    assert usage.queue_us <= usage.time_to_first_token_us <= usage.total_us
    assert usage.reader_us <= usage.total_us


def busy(reply):
    """A microsecond or two by the verifier's clock."""
    reply.timings.verify_us = 2
    return reply


async def test_a_client_sees_which_rounds_went_on_without_their_draft() -> None:
    drafter = FakeDrafter()
    drafter.script = [None, asyncio.Event()]
    settings = {"draft_first_wait_s": 60, "draft_least_wait_s": 0.05}
    async with orchestrator_of(FakeVerifier(), drafter, **settings) as address, Client(address) as client:
        options = {"max_new_tokens": 8, "drafting": chain(3), "want_rounds": True}
        completion = await client.complete("alphabet", "a", **options)
    assert completion.text == "bcdefghi"
    assert [(round_.was_hedged, round_.num_nodes) for round_ in completion.rounds[:2]] == [(False, 3), (True, 0)]
    hedged = sum(round_.was_hedged for round_ in completion.rounds)
    assert completion.finish.usage.num_hedged_rounds == hedged >= 1


async def test_a_session_that_was_lost_is_counted() -> None:
    verifier = FakeVerifier()
    verifier.script = [None, Fault.END_STREAM]
    async with orchestrator_of(verifier) as address, Client(address) as client:
        completion = await client.complete("alphabet", "a", max_new_tokens=3, drafting=NO_DRAFT)
    assert completion.text == "bcd"
    assert completion.finish.usage.num_verify_sessions == 2


async def test_a_resumed_request_is_charged_for_the_rest_alone() -> None:
    async with orchestrator_of(FakeVerifier()) as address, Client(address) as client:
        completion = await client.complete("alphabet", "a", max_new_tokens=5, seed=1, resume_token_ids=[1, 2, 3])
    usage = completion.finish.usage
    assert completion.text == "ef"
    assert (usage.num_resumed_tokens, usage.num_new_tokens, usage.num_rounds) == (3, 2, 2)


async def test_what_is_complete_already_is_finished_without_asking_a_model() -> None:
    verifier = FakeVerifier()
    async with orchestrator_of(verifier) as address, Client(address) as client:
        completion = await client.complete("alphabet", "a", max_new_tokens=2, seed=1, resume_token_ids=[1, 2])
    assert (completion.tokens, completion.finish.reason) == ((), "length")
    assert verifier.num_answers == 0


async def test_clients_take_turns_and_the_urgent_go_first() -> None:
    verifier = FakeVerifier()
    verifier.ration = asyncio.Semaphore(0)
    order: list[str] = []

    async def ask(client: Client, name: str, **options: object) -> None:
        async for _ in client.generate("alphabet", "a", max_new_tokens=1, **options):
            if name not in order:
                order.append(name)

    async with (
        orchestrator_of(verifier, max_requests=1) as address,
        Client(address, client_id="many") as many,
        Client(address, client_id="one") as one,
    ):
        tasks = [asyncio.create_task(ask(many, "running"))]
        await until(lambda: verifier.num_open == 1)
        for number, (client, name, options) in zip(
            count(1),
            [
                (many, "many 1", {}),
                (many, "many 2", {}),
                (one, "one", {}),
                (many, "batch", {"priority": "batch"}),
                (one, "urgent", {"priority": "interactive"}),
            ],
            strict=False,
        ):
            tasks.append(asyncio.create_task(ask(client, name, **options)))
            await until(lambda number=number: num_waiting() == number)
        for _ in range(20):
            verifier.ration.release()
        await asyncio.gather(*tasks)
    assert order == ["running", "urgent", "many 1", "one", "many 2", "batch"]


def num_waiting() -> int:
    names = ("interactive", "standard", "batch")
    return sum(metrics.WAITING.labels(name)._value.get() for name in names)


async def test_a_deadline_that_passes_in_the_queue_makes_room() -> None:
    verifier = FakeVerifier()
    verifier.ration = asyncio.Semaphore(0)
    async with orchestrator_of(verifier, max_requests=1) as address, Client(address) as client:
        running = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=1))
        await until(lambda: verifier.num_open == 1)
        hurried = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=1, timeout_s=1.0))
        await until(lambda: num_waiting() == 1)
        await until(lambda: num_waiting() == 0)
        await asyncio.gather(hurried, return_exceptions=True)
        assert hurried.exception() is not None
        verifier.ration.release()
        await running


async def test_a_full_queue_refuses_with_a_time_and_a_patient_client_comes_again() -> None:
    verifier = FakeVerifier()
    verifier.ration = asyncio.Semaphore(0)
    async with (
        orchestrator_of(verifier, max_requests=1, max_queued_requests=0) as address,
        Client(address) as client,
        Client(address, patience=Patience(full_s=30)) as patient,
    ):
        running = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=1))
        await until(lambda: verifier.num_open == 1)
        with pytest.raises(NoCapacity) as refused:
            await client.complete("alphabet", "a")
        assert refused.value.retry_after_s == 0.5
        num_refused = metrics.REFUSED.labels("standard")._value
        before = num_refused.get()
        waiting = asyncio.create_task(patient.complete("alphabet", "a", max_new_tokens=1))
        await until(lambda: num_refused.get() > before)
        verifier.ration.release()
        verifier.ration.release()
        assert (await running).text == (await waiting).text == "b"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"priority": 7}, "there is no priority 7"),
        ({"resume_token_ids": [1]}, "resume_token_ids needs the seed"),
        ({"resume_token_ids": [1, 2], "max_new_tokens": 1, "sampling": {"seed": 1}}, "holds 2 tokens"),
        ({"resume_token_ids": [26, 1], "sampling": {"seed": 1}}, r"the answer ends \(eos\) with number 1"),
    ],
)
async def test_a_bad_request_is_refused_before_it_starts(request_: dict, sentence: str) -> None:
    verifier = FakeVerifier()
    async with orchestrator_of(verifier) as address, grpc.aio.insecure_channel(address) as channel:
        message = generation_pb2.GenerateRequest(**{"model": "alphabet", "text": "a"} | request_)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generation_pb2_grpc.GenerationStub(channel).Generate(message).read()
    error = from_rpc_error(refused.value)
    assert type(error) is BadParameter
    assert re.search(sentence, error.message)
    assert verifier.num_answers == 0
