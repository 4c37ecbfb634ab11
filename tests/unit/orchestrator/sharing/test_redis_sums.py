"""What several orchestrators get from one Redis, and that nobody waits for it."""

import asyncio
import inspect
import math

import pytest
from redis.asyncio import Redis

from orchestrator.sharing.address import parse_redis_url
from orchestrator.sharing.client import open_client
from orchestrator.sharing.condition import Condition
from orchestrator.sharing.redis_sums import RedisSums
from tests.unit.orchestrator.sharing.redis_server import RedisServer
from tests.unit.orchestrator.sharing.replicas import quiet_replica, replica, stored_sums, until

NOBODY = "redis://127.0.0.1:1"


async def test_two_replicas_have_the_sum_of_both(shared_redis: RedisServer) -> None:
    one, other = replica(shared_redis.url), replica(shared_redis.url)
    async with one.shared(), other.shared():
        for number in range(100):
            one.add("two", {"n": 1.0, "one": number})
            other.add("two", {"n": 1.0, "other": number})
        everything = {"n": 200.0, "one": 4950.0, "other": 4950.0}
        await until(lambda: one.view("two") == other.view("two") == everything)
    assert await stored_sums(shared_redis.url, "two") == everything


async def test_a_replica_that_starts_later_knows_what_the_others_know(shared_redis: RedisServer) -> None:
    first = replica(shared_redis.url)
    async with first.shared():
        first.add("late", {"n": 5.0})
    later = replica(shared_redis.url, flush_interval_s=3600)  # a new group is fetched at once
    async with later.shared():
        assert later.view("late") == {}
        await until(lambda: later.view("late") == {"n": 5.0})


async def test_a_replica_that_only_looks_learns_what_others_add(shared_redis: RedisServer) -> None:
    looks, adds = replica(shared_redis.url), replica(shared_redis.url)
    async with looks.shared(), adds.shared():
        for number in range(1, 4):
            adds.add("looks", {"n": 1.0})
            await until(lambda number=number: looks.view("looks") == {"n": float(number)})


async def test_what_was_added_last_is_merged_before_the_process_ends(shared_redis: RedisServer) -> None:
    sums = replica(shared_redis.url, flush_interval_s=3600)
    async with sums.shared():
        sums.add("farewell", {"n": 1.0}, keep=0.5)
    assert await stored_sums(shared_redis.url, "farewell") == {"n": 1.0}


class Deaf(RedisSums):
    """Swallows a cancellation that comes while it talks to Redis, as `asyncio.wait_for` may before Python 3.12."""

    async def flush(self) -> bool:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.has_swallowed = True
        return await super().flush()


async def test_a_process_ends_although_a_cancellation_was_swallowed(shared_redis: RedisServer) -> None:
    address = parse_redis_url(shared_redis.url)
    sums = Deaf(open_client(address), Condition(address), flush_interval_s=0.001, lifetime_s=1000)
    async with asyncio.timeout(20):
        async with sums.shared():
            sums.add("deaf", {"n": 1.0})
            await until(lambda: sums.view("deaf") == {"n": 1.0} and not sums._has_changes)
            await asyncio.sleep(0.07)
    assert sums.has_swallowed
    assert await stored_sums(shared_redis.url, "deaf") == {"n": 1.0}


async def test_no_digit_is_lost_on_the_way(shared_redis: RedisServer) -> None:
    values = {"third": 1 / 3, "tiny": 5e-324, "huge": 1.7e308, "odd": 0.1 + 0.2, "negative": -math.pi}
    async with quiet_replica(shared_redis.url) as one, quiet_replica(shared_redis.url) as other:
        one.add("digits", values)
        assert await one.flush()
        other.view("digits")
        assert await other.flush()
        assert other.view("digits") == values


async def test_fading_for_ever_ends_at_zero_and_not_in_an_error(shared_redis: RedisServer) -> None:
    async with quiet_replica(shared_redis.url) as sums:
        sums.add("fades", {"n": 1.0})
        for _ in range(20):
            sums.add("fades", {}, keep=1e-20)
            assert await sums.flush()
        sums.add("fades", {"m": 1.0}, keep=1e-300)
        assert await sums.flush()
        assert sums.view("fades") == {"n": 0.0, "m": 1.0}


@pytest.mark.parametrize(
    ("amount", "keep"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, math.nan), (1.0, -1.0)]
)
async def test_what_would_spoil_the_sums_of_all_is_refused(amount: float, keep: float) -> None:
    sums = replica(NOBODY)
    with pytest.raises(ValueError, match="finite"):
        sums.add("spoilt", {"n": amount}, keep=keep)
    assert sums.view("spoilt") == {}


async def test_a_group_that_nobody_asks_for_expires_and_use_prolongs_its_life(shared_redis: RedisServer) -> None:
    async with quiet_replica(shared_redis.url, lifetime_s=1000) as sums, Redis.from_url(shared_redis.url) as client:
        sums.add("expires", {"n": 1.0})
        assert await sums.flush()
        key = "draftpool:bandit:v2:expires"
        assert 990 < await client.ttl(key) <= 1000
        await client.expire(key, 10)
        sums.add("expires", {"n": 1.0})
        assert await sums.flush()
        assert await client.ttl(key) > 990


async def test_silent_replicas_leave_no_trace_for_long(shared_redis: RedisServer) -> None:
    async with (
        quiet_replica(shared_redis.url) as sums,
        Redis.from_url(shared_redis.url, decode_responses=True) as client,
    ):
        sums.add("trace", {"n": 1.0})
        assert await sums.flush()
        await client.hset("draftpool:bandit:v2:trace", mapping={f"r:old{number}": "7:1000" for number in range(50)})
        sums.add("trace", {"n": 1.0})
        assert await sums.flush()
        fields = await client.hgetall("draftpool:bandit:v2:trace")
        assert [name for name in fields if name.startswith("r:")] == [f"r:{sums._replica}"]


def test_looking_and_adding_cannot_wait_for_anybody() -> None:
    """They are plain functions, run without an event loop, over a client that has no connection."""
    assert not inspect.iscoroutinefunction(RedisSums.view)
    assert not inspect.iscoroutinefunction(RedisSums.add)
    sums = replica(NOBODY)
    sums.add("group", {"n": 2.0})
    sums.add("group", {"n": 1.0}, keep=0.5)
    assert sums.view("group") == {"n": 2.0}


def test_what_waits_for_redis_takes_the_room_of_one_delta() -> None:
    sums = replica(NOBODY)
    for _ in range(10_000):
        sums.add("group", {"a": 1.0, "b": 2.0}, keep=0.999)
    assert set(sums._groups) == {"group"}
    assert set(sums._groups["group"]._waiting.amounts) == {"a", "b"}
