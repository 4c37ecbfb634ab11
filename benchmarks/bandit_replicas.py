"""Orchestrators that learn together through a Redis, beside one alone: real processes, one request at a time.

Two replicas take requests in turn, so that the verifier's load, which is a part of what is learned, is that of one
alone. A third starts when they have finished. What every arm is truly worth is measured by an orchestrator of its own.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from operator import attrgetter
from statistics import median
from typing import TypeAlias

from benchmarks.bandit_recording import sampling_name
from benchmarks.bandit_tables import short
from benchmarks.learning import WITHIN, rounds_to_learn, share_within
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, Round, TreePolicy
from orchestrator.settings import DEFAULT_ARMS
from tests.integration.orchestrators import another_orchestrator, empty_redis

HEADING = (
    *("target, sampling", "prompts", "arms within 5 %", "rounds until: alone", "two sharing, each", "a third, later"),
    *("of the first 50 rounds on such arms: alone", "two sharing", "a third, later"),
)
_MAX_DEPTH = max(arm.depth for arm in DEFAULT_ARMS)
_OPENING_ROUNDS = 2
"""In which drafter and verifier take in the prompt; the first round does not wait for the draft."""


@dataclass(frozen=True)
class Conditions:
    """How everything is asked.

    Attributes:
        suites: prompts by kind.
        num_rounds: that each replica plays.
        num_seeds: repetitions; of the order of prompts.
        flush_interval_s: between two exchanges of a replica with Redis, give or take a quarter.
    """

    suites: Mapping[str, Sequence[str]]
    max_new_tokens: int
    num_rounds: int
    num_seeds: int
    flush_interval_s: float

    @property
    def environment(self) -> dict[str, str]:
        """What orchestrators are told."""
        return {"DRAFTPOOL_ORCHESTRATOR_REDIS_FLUSH_INTERVAL_S": str(self.flush_interval_s)}


@dataclass(frozen=True)
class Asking:
    """Everything about a request but its prompt and its tree."""

    target: str
    temperature: float
    conditions: Conditions

    async def rounds(self, client: Client, prompt: str, seed: int, arm: TreePolicy | None = None) -> tuple[Round, ...]:
        """Args: arm: of every round; None leaves it to the bandit."""
        completion = await client.complete(
            self.target,
            prompt,
            max_new_tokens=self.conditions.max_new_tokens,
            temperature=self.temperature,
            seed=seed,
            drafting=arm,
            want_rounds=True,
        )
        return completion.rounds


async def replica_rows(
    plan: StackPlan, temperatures: Sequence[float], conditions: Conditions
) -> AsyncIterator[list[str]]:
    """The cells of a row for each way of sampling and each suite, as they are measured; one target."""
    (target,) = plan.targets
    async with Stack(plan) as stack, Client(stack.orchestrator) as fixed:
        for temperature in temperatures:
            asking = Asking(target, temperature, conditions)
            for suite, prompts in conditions.suites.items():
                true = await true_seconds(asking, fixed, prompts)
                courses = [
                    await course(asking, stack, prompts, random.Random(seed)) for seed in range(conditions.num_seeds)
                ]
                yield row(f"{target}, {sampling_name(temperature)}", suite, true, courses)


async def true_seconds(asking: Asking, client: Client, prompts: Sequence[str]) -> dict[TreePolicy, float]:
    """A token's seconds under every arm, the best one's being 1; on all prompts, the arms in an order that changes."""
    rng, played = random.Random(0), {arm: list[Round]() for arm in DEFAULT_ARMS}
    for seed, prompt in enumerate(prompts):
        for arm in rng.sample(DEFAULT_ARMS, len(DEFAULT_ARMS)):
            rounds = await asking.rounds(client, prompt, seed, arm)
            played[arm] += rounds[_OPENING_ROUNDS:-1]  # the last one is cut
    seconds = {
        arm: sum(one.round_us for one in rounds) / sum(one.num_accepted + 1 for one in rounds)
        for arm, rounds in played.items()
    }
    return {arm: own / min(seconds.values()) for arm, own in seconds.items()}


Choices: TypeAlias = list[TreePolicy]
"""Of one replica, round by round."""


@dataclass(frozen=True)
class Course:
    """What was chosen in one repetition by one alone, by two that share, by a third that started later."""

    alone: list[Choices]
    two: list[Choices]
    third: list[Choices]


async def course(asking: Asking, stack: Stack, prompts: Sequence[str], rng: random.Random) -> Course:
    """All know nothing at first, and get the same requests."""
    order, environment = rng.sample(prompts, len(prompts)), asking.conditions.environment
    async with AsyncExitStack() as running:

        async def start(name: str, redis_url: str | None) -> Client:
            new = another_orchestrator(stack, name, redis_url=redis_url, environment=environment)
            address = (await running.enter_async_context(new)).address
            return await running.enter_async_context(Client(address))

        alone = await choices(asking, [await start("alone", None)], order)
        url = await running.enter_async_context(empty_redis(stack))
        two = await choices(asking, [await start(name, url) for name in ("first", "second")], order)
        third = await choices(asking, [await start("third", url)], order)
    return Course(alone, two, third)


async def choices(asking: Asking, clients: Sequence[Client], prompts: Sequence[str]) -> list[Choices]:
    """Of orchestrators that take the requests in turn, until each has played its rounds."""
    num_rounds, max_new_tokens = asking.conditions.num_rounds, asking.conditions.max_new_tokens
    chosen: list[Choices] = [[] for _ in clients]
    requests = enumerate(cycle(prompts))
    while min(map(len, chosen)) < num_rounds:
        for client, own in zip(clients, chosen, strict=True):
            seed, prompt = next(requests)
            own += whole_trees(await asking.rounds(client, prompt, seed), max_new_tokens)
    return [own[:num_rounds] for own in chosen]


def whole_trees(rounds: Sequence[Round], max_new_tokens: int) -> Iterator[TreePolicy]:
    """What was chosen, without the last rounds, whose trees are cut because few tokens are wanted."""
    num_wanted = max_new_tokens
    for one in rounds:
        if num_wanted > _MAX_DEPTH and one.shape is not None:
            yield one.shape
        num_wanted -= one.num_accepted + 1


def row(situation: str, suite: str, true: Mapping[TreePolicy, float], courses: Sequence[Course]) -> list[str]:
    """Medians over replicas and repetitions."""
    near = sorted((seconds, short(arm)) for arm, seconds in true.items() if seconds <= 1 / WITHIN)
    played = [
        [[true[arm] for arm in own] for seen in courses for own in part(seen)]
        for part in (attrgetter("alone"), attrgetter("two"), attrgetter("third"))
    ]
    return [
        *(situation, suite, ", ".join(name for _, name in near)),
        *(f"{median(map(rounds_to_learn, replicas)):.0f}" for replicas in played),
        *(f"{median(map(share_within, replicas)):.0%}" for replicas in played),
    ]
