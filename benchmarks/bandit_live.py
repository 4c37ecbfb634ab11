"""The bandit on the running system, beside fixed arms on the same prompts, one request at a time.

The bandit's orchestrator is new for every suite and knows nothing. Fixed arms are asked of another one over the same
drafter and verifier, for rounds teach the orchestrator that plays them, whoever chose their trees.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.bandit_recording import sampling_name
from benchmarks.bandit_tables import short
from benchmarks.paired import Answer, ratio, speed
from draftpool.cli.demo_prompts import PROMPTS
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, BestFirst, Client, TreePolicy, TreeShape
from draftpool.tree import chain
from tests.integration.orchestrators import another_orchestrator

PAPER = TreeShape((3, 2, 2, 1, 1))
CHAINS = (chain(2), chain(4))
FIXED_ARMS: tuple[TreePolicy, ...] = (NO_DRAFT, *CHAINS, BestFirst(5, 7), BestFirst(8, 7), BestFirst(16, 7), PAPER)

Way: TypeAlias = TreePolicy | None
"""A fixed arm, or None for the bandit."""

HEADING = (
    *("target, sampling", "prompts", "bandit, tokens/s", "best fixed arm", "bandit / best arm (90 %)"),
    *("its first third", "the rest (90 %)", "best chain", "bandit / best chain (90 %)"),
    *("(3,2,2,1,1) / best arm", "no draft / best arm"),
)


@dataclass(frozen=True)
class Conditions:
    """How everything is asked.

    Attributes:
        suites: prompts by kind.
        seed: of the order of prompts, and of the ways within a prompt.
    """

    suites: Mapping[str, Sequence[str]]
    max_new_tokens: int
    seed: int = 0


async def live_rows(plan: StackPlan, temperatures: Sequence[float], conditions: Conditions) -> AsyncIterator[list[str]]:
    """The cells of a row for each way of sampling and each suite, as they are measured; one target."""
    (target,) = plan.targets
    async with Stack(plan) as stack, Client(stack.orchestrator) as fixed:
        for temperature in temperatures:
            for suite in conditions.suites:
                name = f"{sampling_name(temperature)}, {suite}"
                async with (
                    another_orchestrator(stack, f"orchestrator {name}") as new,
                    Client(new.address) as bandit,
                ):
                    asking = Asking(target, temperature, conditions.max_new_tokens, fixed, bandit)
                    answers = await measure(asking, conditions.suites[suite], random.Random(conditions.seed))
                yield row(f"{target}, {sampling_name(temperature)}", suite, answers)


@dataclass(frozen=True)
class Asking:
    """Everything about a request but its prompt.

    Attributes:
        fixed, bandit: whom fixed arms and the bandit are asked of.
    """

    target: str
    temperature: float
    max_new_tokens: int
    fixed: Client
    bandit: Client

    async def answer(self, prompt: str, seed: int, way: Way) -> Answer:
        client = self.bandit if way is None else self.fixed
        begun = time.perf_counter()
        completion = await client.complete(
            self.target,
            prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=seed,
            drafting=way,
        )
        return Answer(len(completion.tokens), time.perf_counter() - begun)

    async def make_known(self, prompt: str) -> None:
        """Whoever came first would take the prompt in for all others: the verifier keeps what it has computed."""
        await self.fixed.complete(self.target, prompt, max_new_tokens=1, temperature=0, drafting=NO_DRAFT)


async def measure(asking: Asking, prompts: Sequence[str], rng: random.Random) -> dict[Way, list[Answer]]:
    """All ways on every prompt before the next one, in an order that changes."""
    ways: list[Way] = [None, *FIXED_ARMS]
    for arm in FIXED_ARMS:  # services are slow at first, which is no arm's fault; the bandit hears nothing of it
        await asking.answer(PROMPTS[0], 0, arm)
    answers: dict[Way, list[Answer]] = {way: [] for way in ways}
    for seed, prompt in enumerate(rng.sample(prompts, len(prompts))):
        await asking.make_known(prompt)
        for way in rng.sample(ways, len(ways)):
            answers[way].append(await asking.answer(prompt, seed, way))
    return answers


def row(situation: str, suite: str, answers: Mapping[Way, list[Answer]]) -> list[str]:
    """The best arm is the best over all prompts, in hindsight, for the parts too."""
    bandit = answers[None]
    best = max(FIXED_ARMS, key=lambda arm: speed(answers[arm]))
    best_chain = max(CHAINS, key=lambda arm: speed(answers[arm]))
    begin = len(bandit) // 3
    return [
        *(situation, f"{len(bandit)} {suite}", f"{speed(bandit):.1f}", f"{short(best)}: {speed(answers[best]):.1f}"),
        str(ratio(bandit, answers[best])),
        f"{speed(bandit[:begin]) / speed(answers[best][:begin]):.3f}",
        str(ratio(bandit[begin:], answers[best][begin:])),
        f"{short(best_chain)}: {speed(answers[best_chain]):.1f}",
        str(ratio(bandit, answers[best_chain])),
        *(f"{speed(answers[arm]) / speed(answers[best]):.2f}" for arm in (PAPER, NO_DRAFT)),
    ]
