"""Laws of merging, over random histories of several replicas against a real Redis."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.sharing.address import parse_redis_url
from orchestrator.sharing.condition import Condition
from orchestrator.sharing.redis_sums import RedisSums
from tests.unit.orchestrator.sharing.redis_server import RedisServer
from tests.unit.orchestrator.sharing.replicas import stored_sums

REPLICAS = st.integers(0, 2)
_numbers = itertools.count()


class ForgetfulClient(Redis):
    """A Redis that does everything; its answer is lost when `loses_answer` says so."""

    loses_answer = False

    async def execute_command(self, *args, **options):
        answer = await super().execute_command(*args, **options)
        if self.loses_answer and args[0] in ("EVAL", "EVALSHA"):
            raise RedisTimeoutError("lost")
        return answer


@dataclass
class Life:
    """Replicas that come and go around one group."""

    url: str
    stack: AsyncExitStack
    group: str = field(default_factory=lambda: f"group {next(_numbers)}")
    replicas: dict[int, RedisSums] = field(default_factory=dict)
    clients: dict[int, ForgetfulClient] = field(default_factory=dict)

    def replica(self, index: int) -> RedisSums:
        if index not in self.replicas:
            client = ForgetfulClient.from_url(self.url, protocol=2)
            self.stack.push_async_callback(client.aclose)
            condition = Condition(parse_redis_url(self.url))
            self.clients[index] = client
            self.replicas[index] = RedisSums(client, condition, flush_interval_s=1, lifetime_s=1000, refresh_s=0)
        return self.replicas[index]

    async def flush(self, index: int, *, loses_answer: bool = False) -> bool:
        """An exchange, although nothing may have been added."""
        sums = self.replica(index)
        sums.view(self.group)
        self.clients[index].loses_answer = loses_answer
        return await sums.flush()

    async def flush_all(self) -> None:
        """Twice: what waits behind a delta that was not answered goes with the second."""
        for _ in range(2):
            for index in list(self.replicas):
                assert await self.flush(index)

    async def lose_group(self) -> None:
        async with Redis.from_url(self.url) as client:
            await client.delete(f"draftpool:bandit:v2:{self.group}")

    async def stored(self) -> dict[str, float]:
        return await stored_sums(self.url, self.group)


@asynccontextmanager
async def life(server: RedisServer) -> AsyncIterator[Life]:
    async with AsyncExitStack() as stack:
        yield Life(server.url, stack)


CHANGES = st.tuples(
    st.just("add"), REPLICAS, st.floats(0.1, 1), st.dictionaries(st.sampled_from("abc"), st.floats(-10, 10), max_size=3)
)
FLUSHES = st.tuples(st.sampled_from(["flush", "flush unanswered"]), REPLICAS)


@settings(max_examples=60)
@given(events=st.lists(st.one_of(CHANGES, FLUSHES), max_size=30))
async def test_the_sums_are_the_deltas_in_the_order_in_which_they_arrived(shared_redis: RedisServer, events) -> None:
    """By hand: a replica's changes since its last delta arrive together, and an unanswered delta arrives once."""
    async with life(shared_redis) as living:
        expected: dict[str, float] = {}
        waiting: dict[int, list] = {}
        in_doubt: set[int] = set()

        def arrive(index: int) -> None:
            if index in in_doubt:  # it has arrived already
                return
            for keep, amounts in waiting.pop(index, []):
                for name in expected:
                    expected[name] *= keep
                for name, amount in amounts.items():
                    expected[name] = expected.get(name, 0.0) + amount

        for kind, index, *change in events:
            if kind == "add":
                keep, amounts = change
                living.replica(index).add(living.group, amounts, keep=keep)
                waiting.setdefault(index, []).append((keep, amounts))
                continue
            is_due = index in waiting or index in in_doubt
            arrive(index)
            if kind == "flush" and await living.flush(index):
                in_doubt.discard(index)
            elif kind == "flush unanswered":
                await living.flush(index, loses_answer=True)
                in_doubt |= {index} if is_due else set()
        for index in list(living.replicas):
            for _ in range(2):
                arrive(index)
                assert await living.flush(index)
                in_doubt.discard(index)
        assert await living.stored() == pytest.approx(expected, abs=1e-9)
        for index in list(living.replicas):
            living.replica(index).add(living.group, {"last": 1.0})
            assert await living.flush(index)
            assert living.replica(index).view(living.group) == pytest.approx(await living.stored(), abs=1e-9)


LOSSES = st.one_of(st.just(("lose",)), st.tuples(st.just("replace"), REPLICAS))
ATOMS = st.tuples(st.just("add"), REPLICAS)
LEARN_1 = [("add", 1), ("flush", 1)]
UNANSWERED_BUT_KNOWN = [*LEARN_1, ("add", 0), ("flush unanswered", 0), *LEARN_1, ("lose",)]
"""What 0 does not know to have arrived is in the snapshot of 1; then Redis loses it."""


@settings(max_examples=300)
@example(events=[*UNANSWERED_BUT_KNOWN, *LEARN_1])
@example(events=[*UNANSWERED_BUT_KNOWN, ("flush", 0)])
@given(events=st.lists(st.one_of(ATOMS, FLUSHES, LOSSES), max_size=40))
async def test_nothing_counts_twice_whatever_redis_and_replicas_lose(shared_redis: RedisServer, events) -> None:
    """Each addition has a name of its own and adds one; what was still unanswered at the last loss is there."""
    async with life(shared_redis) as living:
        owed: dict[str, int] = {}
        for number, (kind, *index) in enumerate(events):
            match kind, index:
                case "add", [index]:
                    living.replica(index).add(living.group, {f"n{number}": 1.0})
                    owed[f"n{number}"] = index
                case "flush", [index]:
                    assert await living.flush(index)
                case "flush unanswered", [index]:
                    await living.flush(index, loses_answer=True)
                case "replace", [index]:  # it dies with what it had not merged; its successor knows nothing
                    living.replicas.pop(index, None)
                    owed = {name: owner for name, owner in owed.items() if owner != index}
                case "lose", []:
                    answered = {name for name in owed if not _is_unanswered(living, name, owed[name])}
                    owed = {name: owner for name, owner in owed.items() if name not in answered}
                    await living.lose_group()
        await living.flush_all()
        stored = await living.stored()
        assert all(value == 1.0 for value in stored.values()), stored
        assert set(owed) <= set(stored)


def _is_unanswered(living: Life, name: str, owner: int) -> bool:
    return name not in living.replica(owner)._groups[living.group].snapshot.sums()


async def test_a_lost_group_comes_back_once_from_whoever_arrives_first(shared_redis: RedisServer) -> None:
    async with life(shared_redis) as living:
        for index in (1, 0):
            living.replica(index).add(living.group, {"n": 10.0**index})
        await living.flush_all()
        living.replica(0).add(living.group, {"n": 100.0})
        living.replica(1).add(living.group, {"n": 1000.0})
        await living.lose_group()
        await living.flush(0)
        await living.flush(1)
        assert await living.stored() == {"n": 1111.0}


async def test_what_a_new_replica_began_from_nothing_is_joined_with_what_the_others_know(
    shared_redis: RedisServer,
) -> None:
    async with life(shared_redis) as living:
        living.replica(0).add(living.group, {"n": 8.0})
        await living.flush_all()
        await living.lose_group()
        living.replica(1).add(living.group, {"n": 1.0})
        assert await living.flush(1)
        living.replica(1).add(living.group, {}, keep=0.5)
        assert await living.flush(1)
        living.replica(0).add(living.group, {"n": 100.0})
        for _ in range(2):
            await living.flush(0)
            await living.flush(1)
        assert await living.stored() == {"n": (8.0 + 1.0) * 0.5 + 100.0}


async def test_a_snapshot_is_known_by_its_origin_when_all_replicas_in_it_are_forgotten(
    shared_redis: RedisServer,
) -> None:
    async with life(shared_redis) as living, Redis.from_url(shared_redis.url) as client:
        living.replica(0).add(living.group, {"n": 1.0})
        assert await living.flush(0)
        await client.hdel(f"draftpool:bandit:v2:{living.group}", f"r:{living.replica(0)._replica}")
        for index in (1, 0):
            living.replica(index).add(living.group, {"n": 10.0})
            assert await living.flush(index)
        assert await living.stored() == {"n": 21.0}
