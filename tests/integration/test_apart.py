"""On hosts that are really apart: distance and partitions cost speed and nothing else."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.hosts import Hosts, NotPossible, round_trip_ms, stack_apart
from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import NO_DRAFT, Client, Completion, Event, Token, TreePolicy
from draftpool.tree import chain
from tests.integration.probes import QUESTION
from tests.unhurried import unhurried

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHAPE = chain(3)
DRAFTER, VERIFIERS = "drafter", ("verifier tiny-llama 1", "verifier tiny-llama 2")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apart() -> AsyncIterator[tuple[Hosts, Stack]]:
    plan = StackPlan(targets=("tiny-llama",), num_verifiers=2, dtype="float32", has_redis=False)
    with unhurried():
        try:
            async with stack_apart(plan) as running:
                yield running
        except NotPossible as reason:
            pytest.skip(str(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(apart: tuple[Hosts, Stack]) -> AsyncIterator[Client]:
    async with Client(apart[1].orchestrator) as connected:
        yield connected


@contextmanager
def everybody_near(hosts: Hosts) -> Iterator[None]:
    """In the end, whatever was done to them."""
    try:
        yield
    finally:
        for name in (DRAFTER, *VERIFIERS):
            hosts.connect(name)


async def generate(
    client: Client,
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 24,
    drafting: TreePolicy = SHAPE,
    at_half: Callable[[], None] = lambda: None,
) -> Completion:
    """A request within which something happens."""
    events: list[Event] = []
    generation = client.generate(
        "tiny-llama",
        QUESTION,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=11,
        ignore_eos=True,
        drafting=drafting,
    )
    async with aclosing(generation) as arriving:
        async for event in arriving:
            events.append(event)
            if isinstance(event, Token) and sum(isinstance(seen, Token) for seen in events) == max_new_tokens // 2:
                at_half()
    return Completion.from_events(events)


async def until_drafts_return(client: Client) -> None:
    async with asyncio.timeout(60):
        while not (await generate(client)).finish.usage.num_drafted_nodes:
            await asyncio.sleep(0.1)


async def test_every_service_is_in_a_network_of_its_own(apart: tuple[Hosts, Stack]) -> None:
    hosts, stack = apart
    namespaces = {os.readlink(f"/proc/{stack.pids[name]}/ns/net") for name in (DRAFTER, *VERIFIERS, "orchestrator")}
    assert len(namespaces) == 4
    assert os.readlink("/proc/self/ns/net") in namespaces
    assert stack.drafters[0].startswith(f"{hosts.addresses[DRAFTER]}:")


async def test_at_any_distance_every_output_is_the_one_at_none(apart: tuple[Hosts, Stack], client: Client) -> None:
    hosts, stack = apart
    await until_drafts_return(client)
    for temperature in (0.0, 1.0):
        near = await generate(client, temperature=temperature, drafting=NO_DRAFT)
        for names in ((DRAFTER,), VERIFIERS):
            for distance_ms in (2, 50):
                with everybody_near(hosts):
                    for name in names:
                        hosts.connect(name, round_trip_ms=distance_ms)
                        assert await round_trip_ms(stack.services[name].address, num_times=1) >= distance_ms
                    far = await generate(client, temperature=temperature)
                assert far.token_ids == near.token_ids
                assert far.finish.usage.num_drafted_nodes > 0


async def test_a_drafter_cut_off_within_a_request_costs_no_token_and_its_drafts_return(
    apart: tuple[Hosts, Stack], client: Client
) -> None:
    hosts, _ = apart
    await until_drafts_return(client)
    undisturbed = await generate(client, max_new_tokens=60)
    with everybody_near(hosts):
        disturbed = await generate(client, max_new_tokens=60, at_half=lambda: hosts.cut(DRAFTER))
        without = await generate(client)
    assert disturbed.token_ids == undisturbed.token_ids
    assert 0 < disturbed.finish.usage.num_drafted_nodes < undisturbed.finish.usage.num_drafted_nodes
    assert without.token_ids == undisturbed.token_ids[:24]
    assert without.finish.usage.num_drafted_nodes == 0
    await until_drafts_return(client)


async def test_of_two_verifiers_either_may_be_cut_off_and_heals_to_replace_the_other(
    apart: tuple[Hosts, Stack], client: Client
) -> None:
    hosts, _ = apart
    undisturbed = await generate(client, max_new_tokens=60)
    for victim in VERIFIERS:
        with everybody_near(hosts):
            both = await asyncio.gather(
                generate(client, max_new_tokens=60, at_half=lambda name=victim: hosts.cut(name)),
                generate(client, max_new_tokens=60),
            )
            after = await generate(client)
        assert [each.token_ids for each in both] == [undisturbed.token_ids] * 2
        assert after.token_ids == undisturbed.token_ids[:24]


async def test_nothing_is_left_of_hosts_when_they_end() -> None:
    try:
        with Hosts("a", "b") as hosts:
            assert hosts.home in _local_addresses()
    except NotPossible as reason:
        pytest.skip(str(reason))
    assert not _is_running(hosts.wire_pid)
    assert hosts.home not in _local_addresses()


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _local_addresses() -> str:
    return Path("/proc/net/fib_trie").read_text()
