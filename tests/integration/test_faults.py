"""Model services that are not there, go away, stop or come back cost speed and nothing else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import pytest_asyncio

from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, Completion, Event, Token, TreeShape, Usage
from tests.integration.probes import QUESTION, failovers, num_sessions, until_up

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = TreeShape((2, 2, 1))
VERIFIERS = ("verifier tiny-llama 1", "verifier tiny-llama 2")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def supervised() -> AsyncIterator[Stack]:
    """Its own stack, brought back to life by itself: these tests kill parts of it."""
    async with Stack(StackPlan(targets=("tiny-llama",), num_verifiers=2, dtype="float32", has_metrics=True)) as stack:
        supervision = asyncio.create_task(stack.supervise())
        yield stack
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)


async def generate(client: Client, **options: object) -> Completion:
    settings = {"max_new_tokens": 150, "temperature": 1.0, "seed": 11, "ignore_eos": True, "drafting": SHAPE} | options
    return await client.complete("tiny-llama", QUESTION, **settings)


async def disturb(client: Client, fault: Callable[[], None]) -> tuple[int, ...]:
    """The tokens of a request within which something happens."""
    token_ids = []
    generation = client.generate(
        "tiny-llama", QUESTION, max_new_tokens=150, temperature=1.0, seed=11, ignore_eos=True, drafting=SHAPE
    )
    async for event in generation:
        if isinstance(event, Token):
            token_ids.append(event.id)
            if len(token_ids) == 30:
                fault()
    return tuple(token_ids)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


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
        disturbed = await disturb(client, lambda: os.kill(supervised.pids["drafter"], signal.SIGKILL))
        assert disturbed == undisturbed.token_ids
        assert await eventually_drafts(client)


async def test_a_stopped_drafter_holds_no_round_up(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await eventually_drafts(client)
        undisturbed = await generate(client, max_new_tokens=40)
        with stopped(supervised.pids["drafter"]):
            completions = [await generate(client, max_new_tokens=40, timeout_s=60, want_rounds=True) for _ in range(3)]
        assert [completion.token_ids for completion in completions] == [undisturbed.token_ids] * 3
        assert max(round_.round_us for done in completions for round_ in done.rounds) < 2.5e6  # half of draft_timeout_s
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


async def until_listed(client: Client, models: list[str], *, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while [model.name for model in await client.list_models()] != models:
            await asyncio.sleep(0.1)


async def test_verifiers_that_are_killed_while_nobody_asks_are_not_named_until_they_are_back(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await until_listed(client, ["tiny-llama"], within_s=60)
        signal_verifiers(supervised, signal.SIGKILL)
        await until_listed(client, [], within_s=10)
        await until_listed(client, ["tiny-llama"], within_s=60)
        assert (await generate(client, max_new_tokens=20)).tokens


async def test_verifiers_that_hang_while_nobody_asks_are_not_named_until_they_go_on(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await until_listed(client, ["tiny-llama"], within_s=60)
        signal_verifiers(supervised, signal.SIGSTOP)
        try:
            await until_listed(client, [], within_s=40)  # a ping every 10 s, answered within 5
        finally:
            signal_verifiers(supervised, signal.SIGCONT)
        await until_listed(client, ["tiny-llama"], within_s=20)


def signal_verifiers(stack: Stack, number: signal.Signals) -> None:
    for name in VERIFIERS:
        os.kill(stack.pids[name], number)


async def test_of_two_verifiers_one_is_stopped_and_the_other_takes_over(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        await until_up(supervised, "verifier", len(VERIFIERS))
        undisturbed = await generate(client)
        num_before = await failovers(supervised, "verifier")
        with ExitStack() as until_then:

            def stop_one_that_is_asked() -> None:
                victim = next(name for name in VERIFIERS if num_sessions(supervised, name))
                until_then.enter_context(stopped(supervised.pids[victim]))

            both = await asyncio.gather(disturb(client, stop_one_that_is_asked), disturb(client, lambda: None))
        assert both == [undisturbed.token_ids] * 2
        assert await failovers(supervised, "verifier") > num_before


async def test_a_request_outlives_the_restart_of_every_verifier(supervised: Stack) -> None:
    async with Client(supervised.orchestrator) as client:
        undisturbed = await generate(client)

        def kill_all() -> None:
            signal_verifiers(supervised, signal.SIGKILL)

        assert await disturb(client, kill_all) == undisturbed.token_ids
