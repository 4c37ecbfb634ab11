"""The network to a service goes away in the middle of generation, without a word, and comes back."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from statistics import median

import psutil

from benchmarks.apart_distance import DRAFTER, TARGET
from benchmarks.faults import NUM_STREAMS, Streams, Task
from benchmarks.hosts import Hosts, stack_apart
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client, Round, Token
from draftpool.errors import DraftpoolError
from draftpool.tree import chain

VICTIMS = (DRAFTER, f"verifier {TARGET} 1")
LASTS_S = (2.0, 20.0)
"""Shorter than gRPC takes to give a connection up, and longer."""
_MAX_NEW_TOKENS = 64
_AT_WORK_S = 0.1
"""Of computing: more than a service that nobody asks does in the meantime."""
_BACK_WITHIN_S = 60.0


@dataclass(frozen=True)
class PartitionRow:
    """One kind of cut, several times; seconds.

    Attributes:
        pause_s: for each cut, the longest wait of any stream for its next token, until the victim was back.
        back_s: for each cut, from healing until drafts were verified again, or the verifier worked again.
    """

    victim: str
    lasts_s: float
    num_requests: int
    failures: list[str]
    num_changed: int
    pause_s: list[float]
    back_s: list[float]


@dataclass
class DraftedStreams(Streams):
    """Streams that also know when drafts were verified.

    Attributes:
        drafted_at: seconds on the monotonic clock.
    """

    drafted_at: list[float] = field(default_factory=list)


async def ask(client: Client, task: Task, number: int, seen: DraftedStreams) -> tuple[int, ...]:
    token_ids = []
    generation = client.generate(
        TARGET,
        task.prompt,
        max_new_tokens=_MAX_NEW_TOKENS,
        temperature=task.temperature,
        seed=task.seed,
        ignore_eos=True,
        drafting=chain(4),
        want_rounds=True,
        timeout_s=120,
    )
    async with aclosing(generation) as events:
        async for event in events:
            if isinstance(event, Token):
                seen.arrivals[number].append(time.monotonic())
                token_ids.append(event.id)
            elif isinstance(event, Round) and event.num_nodes:
                seen.drafted_at.append(time.monotonic())
    return tuple(token_ids)


async def stream(client: Client, tasks: Sequence[Task], number: int, seen: DraftedStreams) -> None:
    """Ask for one text after another, until cancelled."""
    order = random.Random(number)
    while True:
        task = order.choice(tasks)
        try:
            seen.num_changed += await ask(client, task, number, seen) != task.token_ids
        except DraftpoolError as error:
            seen.failures.append(f"{type(error).__name__}: {error.message}")
        seen.num_requests += 1


async def measure_partitions(prompts: Sequence[str], repetitions: int) -> list[PartitionRow]:
    """Every cut so many times under eight streams, which go on all the while; one drafter and two verifiers."""
    plan = StackPlan(targets=(TARGET,), dtype="float32", num_verifiers=2, has_redis=False)
    tasks = [Task(prompt, number % 2, number) for number, prompt in enumerate(prompts[:6])]
    async with stack_apart(plan) as (hosts, stack), Client(stack.orchestrator) as client:
        seen = DraftedStreams()
        known = [Task(t.prompt, t.temperature, t.seed, await ask(client, t, 0, seen)) for t in tasks]
        streams = [asyncio.create_task(stream(client, known, number, seen)) for number in range(NUM_STREAMS)]
        rows = [
            await _cut_again_and_again(hosts, stack, seen, victim, lasts_s, repetitions)
            for victim in VICTIMS
            for lasts_s in LASTS_S
        ]
        for running in streams:
            running.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return rows


async def _cut_again_and_again(
    hosts: Hosts, stack: Stack, seen: DraftedStreams, victim: str, lasts_s: float, repetitions: int
) -> PartitionRow:
    num_requests, num_failures, num_changed = seen.num_requests, len(seen.failures), seen.num_changed
    pauses_s: list[float] = []
    backs_s: list[float] = []
    for _ in range(repetitions):
        await asyncio.sleep(3)  # steady again
        begin = time.monotonic()
        hosts.cut(victim)
        await asyncio.sleep(lasts_s)
        hosts.connect(victim)
        backs_s.append(await _until_back(stack, seen, victim))
        pauses_s.append(seen.longest_pause_s(begin, time.monotonic()))
    print(f"{victim}, cut off {repetitions} times for {lasts_s:g} s, is measured", file=sys.stderr)
    return PartitionRow(
        victim=victim,
        lasts_s=lasts_s,
        num_requests=seen.num_requests - num_requests,
        failures=seen.failures[num_failures:],
        num_changed=seen.num_changed - num_changed,
        pause_s=pauses_s,
        back_s=backs_s,
    )


async def _until_back(stack: Stack, seen: DraftedStreams, victim: str) -> float:
    """Seconds from now on."""
    begin, process = time.monotonic(), psutil.Process(stack.pids[victim])
    worked_s = _computed_s(process)
    async with asyncio.timeout(_BACK_WITHIN_S):
        while True:
            if victim == DRAFTER and seen.drafted_at[-1] > begin:
                return seen.drafted_at[-1] - begin
            if victim != DRAFTER and _computed_s(process) > worked_s + _AT_WORK_S:
                return time.monotonic() - begin
            await asyncio.sleep(0.02)


def _computed_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def partition_table(rows: Sequence[PartitionRow]) -> list[list[str]]:
    """Cells of a table, its heading first."""
    heading = ["cut off", "for", "times", "requests", "failed", "changed", "pause, median", "longest", "back after"]
    return [heading] + [
        [
            "the drafter" if row.victim == DRAFTER else "one of two verifiers",
            f"{row.lasts_s:g} s",
            *(str(len(row.pause_s)), str(row.num_requests), str(len(row.failures)), str(row.num_changed)),
            *(f"{median(row.pause_s):.2f} s", f"{max(row.pause_s):.2f} s"),
            f"{median(row.back_s):.1f} s ({min(row.back_s):.1f} to {max(row.back_s):.1f})",
        ]
        for row in rows
    ]
