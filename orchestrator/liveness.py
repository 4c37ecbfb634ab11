"""Telling a service that is busy from one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from draftpool.errors import Unavailable
from orchestrator.replicas import Replica

T = TypeVar("T")


async def while_alive(replica: Replica, exchange: Awaitable[T], *, stall_s: float) -> T:
    """Await an exchange for as long as its replica shows that it lives.

    A replica that has not replied after `stall_s` is asked for its health, which it can tell whatever its model is
    doing. One that answers is busy, with a long context for example, and is asked again after as long; one that
    does not answer within `stall_s` is stopped or cut off, and the exchange is cancelled.

    No task is made unless the reply is late: a timer costs a round 6 us, a task 20 us.

    Raises:
        Unavailable: the replica does not answer.
    """
    loop = asyncio.get_running_loop()
    watch: asyncio.Task[None] | None = None

    async def keep_probing(limit: asyncio.Timeout) -> None:
        while True:
            if not await replica.probe(stall_s):
                limit.reschedule(loop.time())
                return
            await asyncio.sleep(stall_s)

    def begin_probing(limit: asyncio.Timeout) -> None:
        nonlocal watch
        watch = asyncio.create_task(keep_probing(limit))

    try:
        async with asyncio.timeout(None) as limit:
            alarm = loop.call_later(stall_s, begin_probing, limit)
            try:
                return await exchange
            finally:
                alarm.cancel()
                if watch is not None:
                    watch.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        raise Unavailable(f"{replica.address} neither replies nor answers a probe within {stall_s:g} s") from None
