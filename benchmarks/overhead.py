"""What a round costs outside the models: the orchestrator, the wire, and Redis.

One request at a time, through two orchestrators over the same services, one with a Redis and one without, in turn. Of
every round the services' own busy time is taken off; what is left is split into waiting for the draft's reply,
waiting for the verifier's, and the orchestrator's own time in the round and between two rounds.

    python -m benchmarks.overhead --prompts gsm8k.jsonl
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.message_sizes import Scales, sizes_table
from benchmarks.prompts import load_prompts
from draftpool.cli.plan import StackPlan
from draftpool.cli.process import ServiceProcess
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, BestFirst, Client, GenerateOptions, Round, TreePolicy, TreeShape
from draftpool.tree import chain

SHAPES: dict[str, TreePolicy | None] = {
    "no draft": NO_DRAFT,
    "chain of 4": chain(4),
    "(3,2,2,1,1)": TreeShape((3, 2, 2, 1, 1)),
    "best 16 of depth 6": BestFirst(16, 6),
    "bandit": None,
}
_PATIENCE_VARIABLE = "DRAFTPOOL_ORCHESTRATOR_DRAFT_LEAST_WAIT_S"
"""Every round shall have its draft, however slow the machine is; by default some would go on without."""

_NUM_WARMUPS = 2
_NUM_WEIGHED = 3
"""Of the prompts, before anything counts, and to weigh messages with."""

_NUM_FIRST_ROUNDS = 2
"""The first round takes in the prompt, and the second may use a draft that was asked for in the first."""


@dataclass
class Spent:
    """By the rounds of one shape through one orchestrator, in microseconds.

    Attributes:
        draft_wire, verify_wire: waiting for a reply beyond what the service itself reports; where there was a draft.
        inside: the rest of a round, which is the orchestrator's own.
        between: from the end of a round to that of the next, as the client sees them, less that round.
        outside: by the request's number, the median over its rounds of all four together.
        num_late: rounds without the draft that they had asked for, which are left out.
    """

    draft_wire: list[float] = field(default_factory=list)
    verify_wire: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    outside: dict[int, float] = field(default_factory=dict)
    num_late: int = 0

    def add(self, number: int, rounds: Sequence[Seen], *, is_drafted: bool) -> None:
        counted = rounds[_NUM_FIRST_ROUNDS:]
        usual = [seen for seen in counted if not is_drafted or seen.round.draft_us > 0]
        self.num_late += len(counted) - len(usual)
        self.draft_wire += [seen.round.draft_wire_us for seen in usual if seen.round.draft_us > 0]
        self.verify_wire += [seen.round.wire_us - seen.round.draft_wire_us for seen in usual]
        self.inside += [seen.inside_us for seen in usual]
        self.between += [seen.between_us for seen in usual]
        if usual:
            self.outside[number] = median(seen.round.wire_us + seen.inside_us + seen.between_us for seen in usual)


@dataclass(frozen=True)
class Seen:
    """A round as the client saw it.

    Attributes:
        since_last_us: from the arrival of the round before to its own.
    """

    round: Round
    since_last_us: float

    @property
    def inside_us(self) -> int:
        return self.round.round_us - self.round.draft_us - self.round.verify_us - self.round.wire_us

    @property
    def between_us(self) -> float:
        return self.since_last_us - self.round.round_us


Measured = dict[str, dict[str, Spent]]
"""By orchestrator, by shape."""


@dataclass(frozen=True)
class Asked:
    """What every shape is measured on."""

    target: str
    prompts: Sequence[str]
    options: GenerateOptions


async def measure(clients: dict[str, Client], asked: Asked) -> Measured:
    """All shapes on every prompt, each through all orchestrators, who take turns at being first."""
    measured: Measured = {name: defaultdict(Spent) for name in clients}
    for number, prompt in enumerate(asked.prompts):
        for label, shape in SHAPES.items():
            options: GenerateOptions = {**asked.options, "seed": number, "drafting": shape, "want_rounds": True}
            for name in sorted(clients, reverse=number % 2 == 1):
                rounds = await seen_rounds(clients[name], asked.target, prompt, options)
                measured[name][label].add(number, rounds, is_drafted=shape is not None and shape.depth > 0)
    return measured


async def seen_rounds(client: Client, target: str, prompt: str, options: GenerateOptions) -> list[Seen]:
    """One request, as it arrives."""
    rounds: list[Seen] = []
    last_s = time.perf_counter()
    async with aclosing(client.generate(target, prompt, **options)) as events:
        async for event in events:
            if isinstance(event, Round):
                now_s = time.perf_counter()
                rounds.append(Seen(event, 1e6 * (now_s - last_s)))
                last_s = now_s
    return rounds


@asynccontextmanager
async def orchestrators(plan: StackPlan) -> AsyncIterator[tuple[Stack, dict[str, str]]]:
    """A stack and the addresses of its orchestrators: the stack's own, and one beside it that has no Redis."""
    async with Stack(plan) as stack:
        addresses = {"Redis" if "redis" in stack.services else "no Redis": stack.orchestrator}
        verifiers = [address for replicas in stack.verifiers.values() for address in replicas]
        spec = plan.orchestrator(drafters=stack.drafters, verifiers=verifiers, redis_url=None)
        alone = ServiceProcess(replace(spec, name="orchestrator alone"), stack.folder)
        try:
            await alone.start()
            yield stack, addresses | {"no Redis": alone.address}
        finally:
            await alone.stop(plan.drain_grace_s)


def percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def rounds_table(spent_of: dict[str, Spent]) -> Table:
    table = Table(title="A round outside the models, ms")
    headings = ("all, p50", "draft wire p50", "p90", "verify wire p50", "p90", "orchestrator", "between rounds")
    table.add_column("shape")
    for heading in (*headings, "rounds", "without draft"):
        table.add_column(heading, justify="right")
    for label, spent in spent_of.items():
        wires = [(wire, percent) for wire in (spent.draft_wire, spent.verify_wire) for percent in (50, 90)]
        waits = [f"{percentile(wire, percent) / 1000:.2f}" if wire else "" for wire, percent in wires]
        whole, *own = (f"{median(us) / 1000:.2f}" for us in (spent.outside.values(), spent.inside, spent.between))
        table.add_row(label, whole, *waits, *own, str(len(spent.inside)), str(spent.num_late))
    return table


def redis_table(measured: Measured) -> Table:
    table = Table(title="With Redis against without, the same request through both: ms outside the models a round")
    for heading in ("shape", "with", "without", "difference, median", "middle half of the differences"):
        table.add_column(heading, justify="right")
    for label, spent in measured["Redis"].items():
        ours, theirs = spent.outside, measured["no Redis"][label].outside
        differences = [(ours[number] - theirs[number]) / 1000 for number in ours.keys() & theirs.keys()]
        low, middle, high = quantiles(differences, n=4, method="inclusive")
        sides = [f"{median(side.values()) / 1000:.2f}" for side in (ours, theirs)]
        table.add_row(label, *sides, f"{middle:+.3f}", f"{low:+.3f} to {high:+.3f}")
    return table


async def run(plan: StackPlan, asked: Asked, log: Console) -> None:
    async with orchestrators(plan) as (stack, addresses):
        clients = {name: Client(address) for name, address in addresses.items()}
        try:
            await measure(clients, replace(asked, prompts=asked.prompts[:_NUM_WARMUPS]))
            measured = await measure(clients, asked)
        finally:
            await asyncio.gather(*(client.close() for client in clients.values()))
        log.print(rounds_table(measured["no Redis"]))
        if "Redis" in measured:
            log.print(redis_table(measured))
        scales = Scales(stack.drafters, stack.verifiers[asked.target])
        async with scales.fleet.watched():
            log.print(await sizes_table(scales, asked.target, asked.prompts[:_NUM_WEIGHED], asked.options))


def main(
    prompts: Annotated[
        Path | None, typer.Option(help="GSM8K problems, JSON lines with a `question`; without it the demo's prompts.")
    ] = None,
    target: Annotated[str, typer.Option(help="An embedded target.")] = "tiny-llama",
    num_prompts: Annotated[
        int, typer.Option(min=2, help="So many, each with every shape through every orchestrator.")
    ] = 10,
    max_new_tokens: Annotated[int, typer.Option(help="Of every request.")] = 96,
    temperature: Annotated[float, typer.Option(help="Of every request.")] = 1.0,
) -> None:
    """Measure and print the tables."""
    log = Console(width=140)
    plan = StackPlan(targets=(target,), dtype="bfloat16", drafter_threads=1, verifier_threads=1)
    os.environ[_PATIENCE_VARIABLE] = "1"
    options: GenerateOptions = {"max_new_tokens": max_new_tokens, "temperature": temperature, "ignore_eos": True}
    asyncio.run(run(plan, Asked(target, load_prompts(prompts, num_prompts), options), log))


if __name__ == "__main__":
    typer.run(main)
