"""Faults at random moments, under load, on real processes: what do the streams feel?

Eight streams ask one after another for texts whose tokens are known from an undisturbed run. Meanwhile processes are
killed or stopped, again and again, at random moments, and started or continued again. For every kind of fault:

- failed: requests that ended with an error;
- changed: requests whose tokens differ from the undisturbed run's;
- pause: how long any stream waited for its next token, from the fault on, until two seconds after it is over;
- back: the tokens of all streams in the second that begins two seconds after the fault, as a share of a second before.
  While a process is down there is less to serve with.

At the end the services must hold nothing: no session, no state, no page of keys and values.

    python -m benchmarks.faults --repetitions 20
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.prompts import load_prompts
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, Token
from draftpool.errors import DraftpoolError
from tests.integration.probes import held_memory, open_sessions

TARGET = "tiny-llama"
NUM_STREAMS = 8
MAX_NEW_TOKENS = 64
OBSERVED_S = 3.0
"""From the fault on; a stopped process is stopped longer."""


@dataclass(frozen=True)
class Fault:
    """What is done, to which processes, and for how long.

    Attributes:
        victims: names of services; one of them is drawn each time unless `is_for_all`.
        lasts_s: until the process is started again, or continued.
    """

    name: str
    victims: tuple[str, ...]
    signal: signal.Signals
    lasts_s: float
    is_for_all: bool = False


DRAFTERS = ("drafter 1", "drafter 2")
VERIFIERS = (f"verifier {TARGET} 1", f"verifier {TARGET} 2")
FAULTS = (
    Fault("one drafter killed", DRAFTERS, signal.SIGKILL, 1.0),
    Fault("all drafters killed", DRAFTERS, signal.SIGKILL, 1.0, is_for_all=True),
    Fault("one of two verifiers killed", VERIFIERS, signal.SIGKILL, 1.0),
    Fault("Redis killed", ("redis",), signal.SIGKILL, 1.0),
    Fault("one drafter stopped for 5 s", DRAFTERS, signal.SIGSTOP, 5.0),
    Fault("all drafters stopped for 5 s", DRAFTERS, signal.SIGSTOP, 5.0, is_for_all=True),
    Fault("one of two verifiers stopped for 5 s", VERIFIERS, signal.SIGSTOP, 5.0),
    Fault("Redis stopped for 5 s", ("redis",), signal.SIGSTOP, 5.0),
)


@dataclass(frozen=True)
class Task:
    """A request and the tokens that it must bring."""

    prompt: str
    temperature: float
    seed: int
    token_ids: tuple[int, ...] = ()


@dataclass
class Streams:
    """Eight streams, and what they have seen.

    Attributes:
        arrivals: of every token, seconds on the monotonic clock, by stream.
    """

    arrivals: list[list[float]] = field(default_factory=lambda: [[] for _ in range(NUM_STREAMS)])
    num_requests: int = 0
    failures: list[str] = field(default_factory=list)
    num_changed: int = 0

    def num_tokens(self, begin: float, end: float) -> int:
        return sum(begin <= arrival < end for stream in self.arrivals for arrival in stream)

    def longest_pause_s(self, begin: float, end: float) -> float:
        """Of any stream, among the pauses that touch the time between."""
        pauses = [
            later - earlier
            for stream in self.arrivals
            for earlier, later in zip(stream, [*stream[1:], end], strict=True)
            if later >= begin and earlier <= end
        ]
        return max(pauses, default=end - begin)


async def ask(client: Client, task: Task, arrivals: list[float]) -> tuple[int, ...]:
    token_ids = []
    generation = client.generate(
        TARGET,
        task.prompt,
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=task.temperature,
        seed=task.seed,
        ignore_eos=True,
        timeout_s=60,
    )
    async with aclosing(generation) as events:
        async for event in events:
            if isinstance(event, Token):
                arrivals.append(time.monotonic())
                token_ids.append(event.id)
    return tuple(token_ids)


async def stream(client: Client, tasks: Sequence[Task], number: int, seen: Streams) -> None:
    """Ask for one text after another, until cancelled."""
    order = random.Random(number)
    while True:
        task = order.choice(tasks)
        try:
            token_ids = await ask(client, task, seen.arrivals[number])
            seen.num_changed += token_ids != task.token_ids
        except DraftpoolError as error:
            seen.failures.append(f"{type(error).__name__}: {error.message}")
        seen.num_requests += 1


@dataclass
class Felt:
    """What one fault did, time after time."""

    pauses_s: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    num_requests: int = 0
    failures: list[str] = field(default_factory=list)
    num_changed: int = 0


async def inflict(stack: Stack, fault: Fault, dice: random.Random) -> None:
    """The fault, for as long as it lasts; returns when the processes are well again."""
    victims = fault.victims if fault.is_for_all else (dice.choice(fault.victims),)
    for name in victims:
        os.kill(stack.pids[name], fault.signal)
    await asyncio.sleep(fault.lasts_s)
    if fault.signal == signal.SIGSTOP:
        for name in victims:
            os.kill(stack.pids[name], signal.SIGCONT)
    else:
        await asyncio.gather(*(stack.services[name].start() for name in victims))


async def feel(stack: Stack, fault: Fault, seen: Streams, felt: Felt, dice: random.Random) -> None:
    await asyncio.sleep(2 + dice.random())  # steady again, and a moment that nobody has chosen
    num_requests, num_failures, num_changed = seen.num_requests, len(seen.failures), seen.num_changed
    begin = time.monotonic()
    before = seen.num_tokens(begin - 2, begin) / 2
    over = asyncio.create_task(inflict(stack, fault, dice))
    await asyncio.sleep(OBSERVED_S)
    felt.back.append(seen.num_tokens(begin + 2, begin + 3) / max(1.0, before))
    await over
    await asyncio.sleep(2)
    felt.pauses_s.append(seen.longest_pause_s(begin, time.monotonic()))
    felt.num_requests += seen.num_requests - num_requests
    felt.failures += seen.failures[num_failures:]
    felt.num_changed += seen.num_changed - num_changed


async def campaign(stack: Stack, tasks: Sequence[Task], repetitions: int, seed: int, log: Console) -> dict[str, Felt]:
    dice = random.Random(seed)
    seen, felt = Streams(), {fault.name: Felt() for fault in FAULTS}
    async with Client(stack.orchestrator) as client:
        known = [Task(t.prompt, t.temperature, t.seed, await ask(client, t, [])) for t in tasks]
        streams = [asyncio.create_task(stream(client, known, number, seen)) for number in range(NUM_STREAMS)]
        for turn in range(repetitions):
            for fault in FAULTS:
                if set(fault.victims) <= set(stack.services):
                    await feel(stack, fault, seen, felt[fault.name], dice)
            log.print(f"{turn + 1} of {repetitions} turns: {seen.num_requests} requests, {len(seen.failures)} failed")
        for running in streams:
            running.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return felt


def table_of(felt: dict[str, Felt], caption: str) -> Table:
    table = Table(title="Faults at random moments", caption=caption, caption_justify="left")
    table.add_column("fault", no_wrap=True)
    for heading in ("times", "requests", "failed", "changed", "pause, median", "longest", "back after 2 s"):
        table.add_column(heading, justify="right")
    for name, what in felt.items():
        if what.pauses_s:
            table.add_row(
                *(
                    name,
                    str(len(what.pauses_s)),
                    str(what.num_requests),
                    str(len(what.failures)),
                    str(what.num_changed),
                ),
                *(f"{median(what.pauses_s):.2f} s", f"{max(what.pauses_s):.2f} s", f"{median(what.back):.0%}"),
            )
    return table


async def run(repetitions: int, seed: int, log: Console) -> None:
    plan = StackPlan(targets=(TARGET,), dtype="float32", num_drafters=2, num_verifiers=2, has_metrics=True)
    prompts = load_prompts(None, 6)
    tasks = [Task(prompt, number % 2, number) for number, prompt in enumerate(prompts)]
    async with Stack(plan) as stack:
        felt = await campaign(stack, tasks, repetitions, seed, log)
        await asyncio.sleep(2)
        left = await open_sessions(stack) + await held_memory(stack)
    caption = (
        f"{NUM_STREAMS} streams of {MAX_NEW_TOKENS} tokens, {TARGET} in float32, 2 drafters, 2 verifiers, a thread "
        f"each; moments drawn with seed {seed}. Left behind: {left} sessions, states and pages."
    )
    log.print(table_of(felt, caption))
    for name, what in felt.items():
        for failure in what.failures:
            log.print(f"{name}: {failure}")


def main(
    repetitions: Annotated[int, typer.Option(min=1, help="Of each fault.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments and the victims.")] = 0,
) -> None:
    """Run the campaign and print the table."""
    asyncio.run(run(repetitions, seed, Console(width=150)))


if __name__ == "__main__":
    typer.run(main)
