"""A drafter that is not there, goes away or comes back costs speed and nothing else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from draftpool import errors
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, Completion, Event, Token, TreeShape, Usage
from tests.integration.probes import QUESTION

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = TreeShape((2, 2, 1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def supervised() -> AsyncIterator[Stack]:
    """Its own stack, brought back to life by itself: these tests kill parts of it."""
    async with Stack(StackPlan(targets=("tiny-llama",), dtype="float32")) as stack:
        supervision = asyncio.create_task(stack.supervise())
        yield stack
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)


async def generate(client: Client, **options: object) -> Completion:
    settings = {"max_new_tokens": 150, "temperature": 1.0, "seed": 11, "ignore_eos": True, "drafting": SHAPE} | options
    return await client.complete("tiny-llama", QUESTION, **settings)


async def eventually_drafts(client: Client) -> Usage:
    async with asyncio.timeout(60):
        while True:
            usage = (await generate(client, max_new_tokens=20)).finish.usage
            if usage.num_drafted_nodes:
                return usage
            await asyncio.sleep(0.2)


async def test_without_a_drafter_there_is_plain_decoding() -> None:
    async with Stack(StackPlan(targets=("tiny-neox",), drafter=None)) as stack, Client(stack.orchestrator) as client:
        completion = await client.complete("tiny-neox", QUESTION, max_new_tokens=20, drafting=SHAPE, ignore_eos=True)
        assert len(completion.tokens) == completion.finish.usage.num_rounds == 20
        assert not (await client.list_models())[0].has_drafter


async def test_a_drafter_killed_within_a_request_costs_no_token_and_comes_back(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        undisturbed = await generate(client)
        assert undisturbed.finish.usage.num_drafted_nodes > 0
        token_ids = []
        generation = client.generate(
            "tiny-llama",
            QUESTION,
            max_new_tokens=150,
            temperature=1.0,
            seed=11,
            ignore_eos=True,
            drafting=SHAPE,
        )
        async for event in generation:
            if isinstance(event, Token):
                token_ids.append(event.id)
                if len(token_ids) == 30:
                    os.kill(supervised.pids["drafter"], signal.SIGKILL)
        assert tuple(token_ids) == undisturbed.token_ids
        assert await eventually_drafts(client)


async def test_a_stopped_drafter_holds_a_request_up_no_longer_than_its_timeout(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await eventually_drafts(client)
        undisturbed = await generate(client, max_new_tokens=40)
        os.kill(supervised.pids["drafter"], signal.SIGSTOP)
        try:
            completion = await generate(client, max_new_tokens=40, timeout_s=60)
        finally:
            os.kill(supervised.pids["drafter"], signal.SIGCONT)
        assert completion.token_ids == undisturbed.token_ids
        assert await eventually_drafts(client)


@pytest.mark.parametrize("options", [{}, {"stop": ["####"], "ignore_eos": False, "repetition_penalty": 1.2}], ids=str)
async def test_an_orchestrator_killed_within_a_request_costs_no_token(supervised: Stack, options: dict) -> None:
    """Supervision starts it again, and the client asks for the rest: sampled text, stop strings and penalties alike."""
    async with Client(supervised.orchestrator) as client:
        undisturbed = await generate(client, **options)
        events: list[Event] = []
        settings = {"max_new_tokens": 150, "temperature": 1.0, "seed": 11, "ignore_eos": True, "drafting": SHAPE}
        async for event in client.generate("tiny-llama", QUESTION, **settings | options):
            events.append(event)
            if sum(isinstance(seen, Token) for seen in events) == 12 and isinstance(event, Token):
                os.kill(supervised.pids["orchestrator"], signal.SIGKILL)
        continued = Completion.from_events(events)
        assert continued.finish.usage.num_resumed_tokens >= 12
        assert (continued.token_ids, continued.text) == (undisturbed.token_ids, undisturbed.text)
        assert continued.finish.reason == undisturbed.finish.reason


async def test_a_lost_verifier_is_a_clear_error_and_its_return_is_noticed(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        before = await generate(client, max_new_tokens=20)
        os.kill(supervised.pids["verifier tiny-llama"], signal.SIGKILL)
        with pytest.raises(errors.Unavailable):
            await generate(client)
        async with asyncio.timeout(60):
            while True:
                try:
                    after = await generate(client, max_new_tokens=20)
                    break
                except errors.Unavailable:
                    await asyncio.sleep(0.2)
        assert after.token_ids == before.token_ids


async def until_listed(client: Client, models: list[str], *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while [model.name for model in await client.list_models()] != models:
            await asyncio.sleep(0.1)


async def test_a_verifier_that_is_killed_while_nobody_asks_it_is_not_named_until_it_is_back(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await until_listed(client, ["tiny-llama"], within_s=60)
        os.kill(supervised.pids["verifier tiny-llama"], signal.SIGKILL)
        await until_listed(client, [], within_s=10)
        await until_listed(client, ["tiny-llama"], within_s=60)
        assert (await generate(client, max_new_tokens=20)).tokens


async def test_a_verifier_that_hangs_while_nobody_asks_it_is_not_named_until_it_goes_on(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await until_listed(client, ["tiny-llama"], within_s=60)
        os.kill(supervised.pids["verifier tiny-llama"], signal.SIGSTOP)
        try:
            await until_listed(client, [], within_s=40)  # a ping every 10 s, answered within 5
        finally:
            os.kill(supervised.pids["verifier tiny-llama"], signal.SIGCONT)
        await until_listed(client, ["tiny-llama"], within_s=20)
