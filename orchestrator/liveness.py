"""Telling a service that is busy from one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from draftpool.errors import Unavailable
from orchestrator.replicas import Replica


@dataclass(frozen=True)
class StallPolicy:
    """When to doubt a replica that does not reply.

    Attributes:
        stall_s: without a reply, until it is asked whether it lives, and then until that is answered.
        limit_s: without a reply, until it is given up although it lives; None for never.
    """

    stall_s: float = 0.5
    limit_s: float | None = None


class StallWatch:
    """Watches the exchanges of one stream, one at a time.

    A replica that has not replied after `stall_s` is asked for its health, which it can tell whatever its model is
    doing. One that answers is busy, with a long context for example, and is asked again after as long; one that
    does not answer is stopped or cut off.

    An exchange costs two assignments: one timer serves all of them, and looks at the clock when it fires.
    """

    def __init__(self, replica: Replica, policy: StallPolicy, on_lost: Callable[[Unavailable], None]) -> None:
        """`on_lost` is called with what is wrong, at most once an exchange; it should end the exchange."""
        self._replica = replica
        self._policy = policy
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """An exchange begins."""
        self._since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._policy.stall_s, self._look)

    def end(self) -> None:
        """Its reply is here."""
        self._since_s = None
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    def close(self) -> None:
        """There will be no further exchange."""
        self.end()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since_s is None:
            return
        left_s = self._since_s + self._policy.stall_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._probing = asyncio.create_task(self._probe(self._since_s))

    async def _probe(self, since_s: float) -> None:
        stall_s, limit_s = self._policy.stall_s, self._policy.limit_s
        while await self._replica.probe(stall_s):
            waited_s = self._loop.time() - since_s
            if limit_s is not None and waited_s >= limit_s:
                self._lose(f"{self._replica.address} lives, but has not replied within {limit_s:g} s")
                return
            await asyncio.sleep(stall_s if limit_s is None else min(stall_s, limit_s - waited_s))
        self._lose(f"{self._replica.address} neither replies nor answers a probe within {stall_s:g} s")

    def _lose(self, reason: str) -> None:
        self._probing = None
        self._on_lost(Unavailable(reason))
