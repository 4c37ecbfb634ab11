"""Orchestrators over one Redis learn together: what two of them have learned, a third knows that is started later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, LearnedLoad, Round
from tests.integration.orchestrators import another_orchestrator, empty_redis
from tests.integration.probes import QUESTION
from tests.unhurried import unhurried

pytestmark = pytest.mark.asyncio(loop_scope="session")

TARGET = "tiny-llama"
NUM_REQUESTS = 3
OPENING_ROUNDS = 2
"""Of a request, at most: they open its sessions, and teach nothing."""


class Fronts:
    """Orchestrators over the same services and the same Redis, started one by one."""

    def __init__(self, stack: Stack, redis_url: str, running: AsyncExitStack) -> None:
        self._stack = stack
        self._redis_url = redis_url
        self._running = running

    async def start(self, name: str) -> Client:
        with unhurried():
            new = another_orchestrator(self._stack, name, redis_url=self._redis_url)
            address = (await self._running.enter_async_context(new)).address
        return await self._running.enter_async_context(Client(address))


async def ask(client: Client, seed: int) -> tuple[Round, ...]:
    completion = await client.complete(
        TARGET, QUESTION, temperature=0, seed=seed, max_new_tokens=60, ignore_eos=True, want_rounds=True
    )
    return completion.rounds


async def learned(client: Client) -> LearnedLoad | None:
    """With one session open; None where nothing is known."""
    loads = [load for situation in await client.describe_bandit() for load in situation.loads]
    return next((load for load in loads if load.min_sessions == 1), None)


def num_told(load: LearnedLoad) -> float:
    """Rounds that taught anything: all of them tell what plain decoding would have brought."""
    return next(arm.num_rounds for arm in load.arms if arm.policy == NO_DRAFT)


async def once(clients: list[Client], holds: Callable[[list[LearnedLoad]], bool]) -> list[LearnedLoad]:
    """What all have learned, as soon as it is so; whoever asks makes an orchestrator look into Redis now and then."""
    async with asyncio.timeout(90):
        while True:
            loads = [load for client in clients if (load := await learned(client)) is not None]
            if len(loads) == len(clients) and holds(loads):
                return loads
            await asyncio.sleep(0.1)


def are_alike(loads: list[LearnedLoad]) -> bool:
    return all(load.arms == loads[0].arms for load in loads)


async def test_a_third_orchestrator_begins_with_what_two_others_have_learned(stack: Stack) -> None:
    async with AsyncExitStack() as running:
        fronts = Fronts(stack, await running.enter_async_context(empty_redis(stack)), running)
        teachers = [await fronts.start("teacher 1"), await fronts.start("teacher 2")]
        answers = [await ask(teacher, seed) for teacher in teachers for seed in range(NUM_REQUESTS)]
        await once(teachers, are_alike)  # all that was learned is in Redis

        newcomer = await fronts.start("newcomer")
        known, of_teacher, _ = await once([newcomer, *teachers], are_alike)

        fading = 0.9  # a lower bound, for so few rounds
        assert num_told(known) > fading * sum(len(rounds) - OPENING_ROUNDS for rounds in answers)
        first, *_ = await ask(newcomer, seed=1)
        assert first.shape == of_teacher.arms[0].policy, "its very first choice is what the others would choose"
