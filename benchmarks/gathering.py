"""What it brings that passes wait for sessions that are about to be back (`verifier_service.companions`).

Closed loop: the same requests through two verifiers of the same target, one that holds its passes and one that does
not, in turn, several times.

    python -m benchmarks.gathering --prompts gsm8k.jsonl
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.load import Workload, closed_loop
from benchmarks.prompts import load_prompts
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, TreePolicy
from draftpool.tree import chain

_VARIABLE = "DRAFTPOOL_VERIFIER_GATHER"
WAYS: dict[str, TreePolicy | None] = {"no draft": NO_DRAFT, "chain of 4": chain(4), "bandit": None}


@contextmanager
def gathering(*, is_on: bool) -> Iterator[None]:
    """What verifiers do that are started meanwhile."""
    os.environ[_VARIABLE] = str(is_on)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


Clients = dict[bool, Client]
"""By whether passes are held."""


async def run(plan: StackPlan, work: Workload, callers: Sequence[int], repetitions: int, requests_each: int) -> Table:
    table = Table(title=f"Passes held / not held, tokens/s: {work.target}, {plan.dtype}", caption_justify="left")
    for heading in ("drafting", "callers", "not held", "held", "held / not held, median", "least", "most"):
        table.add_column(heading, justify="right")
    async with AsyncExitStack() as running:
        clients: Clients = {}
        for is_on in (False, True):
            with gathering(is_on=is_on):
                stack = await running.enter_async_context(Stack(plan))
            clients[is_on] = await running.enter_async_context(Client(stack.orchestrator))
        for name, num_callers in product(WAYS, callers):
            loop = partial(
                closed_loop,
                work=work,
                num_callers=num_callers,
                num_requests=num_callers * requests_each,
                drafting=WAYS[name],
            )
            table.add_row(name, str(num_callers), *await _compared(clients, loop, repetitions))
    return table


async def _compared(clients: Clients, loop: Callable[[Client], Awaitable[float]], repetitions: int) -> list[str]:
    """Cells: tokens a second of both, and their ratio."""
    speeds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(-1, repetitions):  # the first warms up, and the bandit gets to know the load
        for is_on in sorted(clients, reverse=bool(turn % 2)):
            speed = await loop(clients[is_on])
            if turn >= 0:
                speeds[is_on].append(speed)
    ratios = [held / not_held for held, not_held in zip(speeds[True], speeds[False], strict=True)]
    return [
        *(f"{median(speeds[is_on]):.0f}" for is_on in (False, True)),
        *(f"{pick(ratios):.2f}x" for pick in (median, min, max)),
    ]


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    target: Annotated[str, typer.Option(help="An embedded target.")] = "tiny-llama",
    dtype: Annotated[str, typer.Option(help="Of the target.")] = "float32",
    temperature: Annotated[float, typer.Option(help="Of every request.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Of every request.")] = 48,
    callers: Annotated[list[int] | None, typer.Option(help="Requests at once.", show_default="1, 2, 4 … 32")] = None,
    repetitions: Annotated[int, typer.Option(help="Of each way at each number of callers.")] = 5,
    requests_each: Annotated[int, typer.Option(help="Of each caller, one after another.")] = 3,
) -> None:
    """Measure and print the table."""
    plan = StackPlan(targets=(target,), dtype=dtype, has_redis=False, drafter_threads=1, verifier_threads=1)
    work = Workload(target, load_prompts(prompts, 64), max_new_tokens, temperature)
    Console(width=110).print(asyncio.run(run(plan, work, callers or [1, 2, 4, 8, 16, 32], repetitions, requests_each)))


if __name__ == "__main__":
    typer.run(main)
