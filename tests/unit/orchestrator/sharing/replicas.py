"""Orchestrators as far as sharing goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from orchestrator.sharing.address import parse_redis_url
from orchestrator.sharing.client import open_client
from orchestrator.sharing.condition import Condition
from orchestrator.sharing.redis_sums import RedisSums

TIMEOUT_S = 0.5
"""Longest wait for an answer in these tests, which make servers hang."""


def replica(url: str, *, flush_interval_s: float = 0.02, lifetime_s: int = 1000, timeout_s: float = 20.0) -> RedisSums:
    address = parse_redis_url(url)
    client = open_client(address, timeout_s=timeout_s)
    condition = Condition(address)
    return RedisSums(
        client, condition, flush_interval_s=flush_interval_s, lifetime_s=lifetime_s, refresh_s=2 * flush_interval_s
    )


@asynccontextmanager
async def quiet_replica(url: str, *, timeout_s: float = 20.0, lifetime_s: int = 1000) -> AsyncIterator[RedisSums]:
    """One that exchanges nothing by itself; the test says when."""
    sums = replica(url, timeout_s=timeout_s, lifetime_s=lifetime_s)
    yield sums
    await sums._client.aclose()


async def flush_all(sums: RedisSums, within_s: float = 30.0) -> None:
    """Exchange until everything is merged, whatever goes wrong on the way."""
    async with asyncio.timeout(within_s):
        while not (await sums.flush() and not sums._has_changes):
            await asyncio.sleep(0.01)


async def stored_sums(url: str, group: str) -> dict[str, float]:
    """What Redis holds, read by another way than the one under test."""
    async with Redis.from_url(url, decode_responses=True) as client:
        fields = await client.hgetall(f"draftpool:bandit:v2:{group}")
    return {name.removeprefix("s:"): float(value) for name, value in fields.items() if name.startswith("s:")}


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
