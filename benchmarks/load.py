"""Many requests at once: does drafting ever cost throughput, and how long do callers wait?

Closed loop: as many callers as the row says, each asking again when its answer is complete; the same requests with the
bandit and without drafting, in turn, several times. Speculation has to switch itself down where it does not pay, so the
ratio should not fall below 1.

Open loop: requests arrive at random (Poisson), at a share of the largest throughput measured before; the time to the
first token and the time between two replies with tokens, as the callers see them.

    python -m benchmarks.load --prompts gsm8k.jsonl
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.prompts import load_prompts
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, Event, Token, TreePolicy

WAYS: dict[str, TreePolicy | None] = {"bandit": None, "no draft": NO_DRAFT}
_SAME_REPLY_S = 0.0002
"""Tokens of one round arrive together."""


@dataclass(frozen=True)
class Workload:
    """What callers ask for."""

    target: str
    prompts: Sequence[str]
    max_new_tokens: int
    temperature: float

    def begin(
        self, client: Client, number: int, drafting: TreePolicy | None, *, want_rounds: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The request of that number: its prompt and its seed."""
        return client.generate(
            self.target,
            self.prompts[number % len(self.prompts)],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=number,
            ignore_eos=True,
            drafting=drafting,
            want_rounds=want_rounds,
        )


@dataclass
class Seen:
    """By the callers, in seconds.

    Attributes:
        gaps_s: between two replies that carry tokens.
    """

    first_token_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    num_tokens: int = 0


async def ask(client: Client, work: Workload, number: int, drafting: TreePolicy | None, seen: Seen) -> None:
    last = time.perf_counter()
    is_first = True
    async with aclosing(work.begin(client, number, drafting)) as events:
        async for event in events:
            if isinstance(event, Token):
                now = time.perf_counter()
                if is_first:
                    seen.first_token_s.append(now - last)
                elif now - last > _SAME_REPLY_S:
                    seen.gaps_s.append(now - last)
                is_first, last = False, now
                seen.num_tokens += 1


async def closed_loop(
    client: Client, work: Workload, num_callers: int, num_requests: int, drafting: TreePolicy | None
) -> float:
    """Tokens a second, all callers together."""
    numbers, seen = iter(range(num_requests)), Seen()

    async def caller() -> None:
        for number in numbers:
            await ask(client, work, number, drafting, seen)

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(num_callers)))
    return seen.num_tokens / (time.perf_counter() - begin)


async def open_loop(
    client: Client, work: Workload, requests_per_s: float, num_requests: int, drafting: TreePolicy | None
) -> Seen:
    """Requests that arrive whether or not those before them are answered; the same moments for every way."""
    clock, seen, running = random.Random(0), Seen(), []
    for number in range(num_requests):
        running.append(asyncio.create_task(ask(client, work, number, drafting, seen)))
        await asyncio.sleep(clock.expovariate(requests_per_s))
    await asyncio.gather(*running)
    return seen


def percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


async def closed_table(client: Client, work: Workload, callers: Sequence[int], repetitions: int) -> tuple[Table, float]:
    table = Table(title=f"Throughput, closed loop: {work.target}", caption_justify="left")
    for heading in ("callers", "no draft, tokens/s", "bandit, tokens/s", "bandit / no draft, median", "least", "most"):
        table.add_column(heading, justify="right")
    most = 0.0
    for num_callers in callers:
        num_requests = max(8, 2 * num_callers)
        await closed_loop(client, work, num_callers, num_requests, None)  # the bandit gets to know this load
        speeds: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(repetitions):
            for name in sorted(WAYS, reverse=bool(turn % 2)):
                speeds[name].append(await closed_loop(client, work, num_callers, num_requests, WAYS[name]))
        ratios = [ours / plain for ours, plain in zip(speeds["bandit"], speeds["no draft"], strict=True)]
        most = max(most, median(speeds["no draft"]))
        table.add_row(
            *(str(num_callers), f"{median(speeds['no draft']):.0f}", f"{median(speeds['bandit']):.0f}"),
            *(f"{median(ratios):.2f}x", f"{min(ratios):.2f}x", f"{max(ratios):.2f}x"),
        )
    return table, most


async def open_table(client: Client, work: Workload, most_tokens_per_s: float, num_requests: int) -> Table:
    table = Table(title=f"Waiting, open loop: {work.target}", caption_justify="left")
    for heading in ("load", "way", "first token p50", "p99", "between replies p50", "p99", "per token, mean"):
        table.add_column(heading, justify="right")
    for share in (0.3, 0.6, 0.9):
        for name, drafting in WAYS.items():
            rate = share * most_tokens_per_s / work.max_new_tokens
            seen = await open_loop(client, work, rate, num_requests, drafting)
            per_token = sum(seen.gaps_s) / max(1, seen.num_tokens - len(seen.first_token_s))
            table.add_row(
                *(f"{share:.0%}", name),
                *(f"{1000 * percentile(seen.first_token_s, percent):.0f} ms" for percent in (50, 99)),
                *(f"{1000 * percentile(seen.gaps_s, percent):.0f} ms" for percent in (50, 99)),
                f"{1000 * per_token:.1f} ms",
            )
    return table


async def run(plan: StackPlan, work: Workload, callers: Sequence[int], repetitions: int, log: Console) -> None:
    async with Stack(plan) as stack, Client(stack.orchestrator) as client:
        table, most = await closed_table(client, work, callers, repetitions)
        log.print(table)
        log.print(await open_table(client, work, most, num_requests=60))


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    target: Annotated[str, typer.Option(help="An embedded target.")] = "tiny-llama",
    temperature: Annotated[float, typer.Option(help="Of every request.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Of every request.")] = 48,
    callers: Annotated[list[int] | None, typer.Option(help="Requests at once.", show_default="1, 2, 4 … 64")] = None,
    repetitions: Annotated[int, typer.Option(help="Of each way at each number of callers.")] = 5,
) -> None:
    """Measure and print both tables."""
    log = Console(width=130)
    plan = StackPlan(targets=(target,), dtype="bfloat16")
    work = Workload(target, load_prompts(prompts, 64), max_new_tokens, temperature)
    log.print(f"{max_new_tokens} new tokens, temperature {temperature:g}, bfloat16, threads: {plan.threads}")
    asyncio.run(run(plan, work, callers or [1, 2, 4, 8, 16, 32, 64], repetitions, log))


if __name__ == "__main__":
    typer.run(main)
