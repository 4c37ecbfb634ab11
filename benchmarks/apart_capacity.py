"""How many clients can one verifier serve, with the drafter on another core, on its own core, or not used at all?

The verifier has core 0 for itself, or shares it with the drafter; everything else is on core 1: a remote drafter, the
orchestrator, the clients and the wire. So core 1 must not be what is full, and what each process computed is reported
to see whether it was. One stack runs throughout: between two cells the drafter is moved from core to core and the
wire is lengthened, so that all placements are measured in turn, within minutes of each other.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from statistics import median

import psutil

from benchmarks.apart_distance import DRAFTER, ROUND_TRIPS_MS, TARGET, VERIFIER
from benchmarks.hosts import Hosts, pin, stack_apart
from benchmarks.load import Workload
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, Round, Token, TreePolicy
from draftpool.tree import chain

VERIFIER_CORE, OTHER_CORE = 0, 1
NUM_LEVELS = 4
SHAPES: dict[str, TreePolicy | None] = {f"chain of {NUM_LEVELS}": chain(NUM_LEVELS), "bandit": None}
OFF = "no draft"
_SETTLE_S = 2.0
"""Until the streams are under way, and the bandit knows the load."""


@dataclass(frozen=True)
class Placement:
    """Where the drafter is."""

    name: str
    drafter_core: int
    round_trip_ms: float = 0.0


CO_LOCATED = Placement("co-located", VERIFIER_CORE)
REMOTE = tuple(Placement(f"remote, {ms:g} ms", OTHER_CORE, ms) for ms in ROUND_TRIPS_MS)


@dataclass(frozen=True)
class Condition:
    """What is measured at every number of clients."""

    placement: Placement
    shape: str
    drafting: TreePolicy | None


CONDITIONS = (
    Condition(REMOTE[0], OFF, NO_DRAFT),
    *(Condition(place, shape, tree) for shape, tree in SHAPES.items() for place in (CO_LOCATED, *REMOTE)),
)


@dataclass
class Cell:
    """One condition with so many clients, for some seconds.

    Attributes:
        placement: `co-located`, `remote, 2 ms`; or `no draft`.
        draft_us, verify_us: medians over rounds that verified a draft; with queueing, of which one client has none.
        busy: what each process computed, as a share of one core.
    """

    placement: str
    shape: str
    num_clients: int
    seconds: float = 0.0
    num_tokens: int = 0
    num_rounds: int = 0
    num_drafted_rounds: int = 0
    draft_us: float = 0.0
    verify_us: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds

    @property
    def tokens_per_computed_s(self) -> float:
        """Per second that models computed on the verifier's core: other work on the machine matters less to it."""
        is_shared = self.placement == CO_LOCATED.name
        return self.tokens_per_s / (self.busy["verifier"] + (self.busy["drafter"] if is_shared else 0.0))


@dataclass
class _Window:
    """What all clients see while it is open."""

    is_open: bool = False
    num_tokens: int = 0
    rounds: list[Round] = field(default_factory=list)


async def measure_capacity(
    prompts: Sequence[str], max_new_tokens: int, *, clients: Sequence[int], seconds: float, repetitions: int
) -> list[Cell]:
    """Every condition at every number of clients, in turn, so many times."""
    plan = StackPlan(targets=(TARGET,), dtype="float32", has_redis=False, drafter_threads=1, verifier_threads=1)
    cores = {DRAFTER: OTHER_CORE, VERIFIER: VERIFIER_CORE, "orchestrator": OTHER_CORE}
    work = Workload(TARGET, prompts, max_new_tokens, temperature=1.0)
    cells = []
    async with stack_apart(plan, cores) as (hosts, stack), Client(stack.orchestrator) as client:
        for pid in (os.getpid(), hosts.wire_pid):
            pin(pid, OTHER_CORE)
        for turn in range(repetitions):
            for num_clients in clients:
                for condition in CONDITIONS[:: -1 if turn % 2 else 1]:
                    _arrange(hosts, stack, condition.placement)
                    cells.append(await _measure(client, work, condition, num_clients, seconds, _pids(hosts, stack)))
                print(f"turn {turn + 1} of {repetitions}: {num_clients} clients are measured", file=sys.stderr)
    return cells


def _arrange(hosts: Hosts, stack: Stack, placement: Placement) -> None:
    pin(stack.pids[DRAFTER], placement.drafter_core)
    hosts.connect(DRAFTER, round_trip_ms=placement.round_trip_ms)


def _pids(hosts: Hosts, stack: Stack) -> dict[str, int]:
    services = {name.partition(" ")[0]: pid for name, pid in stack.pids.items()}
    return {**services, "wire": hosts.wire_pid, "clients": os.getpid()}


async def _measure(
    client: Client, work: Workload, condition: Condition, num_clients: int, seconds: float, pids: dict[str, int]
) -> Cell:
    """Closed loop: every client asks again when its answer is complete."""
    window = _Window()
    running = [
        asyncio.create_task(_ask_on(client, work, number, condition.drafting, window)) for number in range(num_clients)
    ]
    await asyncio.sleep(_SETTLE_S)
    before, begin = _computed_s(pids), time.perf_counter()
    window.is_open = True
    await asyncio.sleep(seconds)
    window.is_open = False
    after, end = _computed_s(pids), time.perf_counter()
    failed = [task for task in running if task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in failed:
        task.result()  # raises: a client must not fail
    cell = Cell(OFF if condition.shape == OFF else condition.placement.name, condition.shape, num_clients, end - begin)
    cell.busy = {name: (after[name] - before[name]) / cell.seconds for name in pids}
    return _counted(cell, window)


def _counted(cell: Cell, window: _Window) -> Cell:
    drafted = [round_ for round_ in window.rounds if round_.num_nodes and round_.draft_us]
    cell.num_tokens, cell.num_rounds, cell.num_drafted_rounds = window.num_tokens, len(window.rounds), len(drafted)
    if drafted:
        cell.draft_us = median(round_.draft_us for round_ in drafted)
        cell.verify_us = median(round_.verify_us for round_ in drafted)
    return cell


async def _ask_on(client: Client, work: Workload, number: int, drafting: TreePolicy | None, window: _Window) -> None:
    """One text after another, until cancelled."""
    seed = number
    while True:
        async with aclosing(work.begin(client, seed, drafting, want_rounds=True)) as events:
            async for event in events:
                if not window.is_open:
                    continue
                if isinstance(event, Token):
                    window.num_tokens += 1
                elif isinstance(event, Round):
                    window.rounds.append(event)
        seed += 101  # so that clients do not follow each other through the same prompts


def _computed_s(pids: dict[str, int]) -> dict[str, float]:
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: each.user + each.system for name, each in times.items()}
