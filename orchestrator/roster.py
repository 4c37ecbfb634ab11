"""The replicas behind one pool's addresses: each has a task that watches it, visits it and at last closes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Generic

from orchestrator.discovery import Discovery
from orchestrator.health_watch import watch_health
from orchestrator.replicas import Health, R

log = logging.getLogger(__name__)

_START_S = 15.0
"""The longest that a start waits for addresses and replicas; whoever is slower is taken in later."""
_LINGER_S = 30.0
"""So long a channel outlives its address at least: requests that chose it may be about to open a stream."""


class Roster(Generic[R]):
    """Keeps a set of replicas equal to what its sources tell."""

    def __init__(
        self,
        sources: Sequence[Discovery],
        *,
        replica_at: Callable[[str], R],
        visit: Callable[[R], Awaitable[None]],
        let_go: Callable[[R], None],
        refresh_s: float,
    ) -> None:
        """
        Args:
            visit: called for a replica that can be reached, when something about it has changed and every `refresh_s`.
            let_go: called when a replica's address is gone.
        """
        self._sources = sources
        self._replica_at = replica_at
        self._visit = visit
        self._let_go = let_go
        self._refresh_s = refresh_s
        self._told: dict[int, frozenset[str]] = {}
        self._have_all_told = asyncio.Event()
        self._members: dict[str, R] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def members(self) -> list[R]:
        return list(self._members.values())

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Entered when every source has told and every replica has been tried; all channels are closed at the end."""
        for index, source in enumerate(self._sources):
            self._start(self._persistently(partial(self._follow, index, source), str(source)))
        try:
            if self._sources:
                await self._settle()
            yield
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                await self._have_all_told.wait()
                await asyncio.gather(*(replica.settled.wait() for replica in self.members))

    def _start(self, job: Awaitable[None]) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _persistently(self, job: Callable[[], Awaitable[None]], whose: str) -> None:
        """Do it again after a bug, which must not end the watching."""
        while True:
            try:
                return await job()
            except Exception:
                log.exception("a bug while watching %s", whose)
            await asyncio.sleep(self._refresh_s)

    async def _follow(self, index: int, source: Discovery) -> None:
        async for addresses in source.watch():
            self._told[index] = addresses
            self._reconcile(frozenset().union(*self._told.values()))
            if len(self._told) == len(self._sources):
                self._have_all_told.set()

    def _reconcile(self, addresses: frozenset[str]) -> None:
        for address in sorted(addresses - self._members.keys()):
            log.debug("%s is new", address)
            replica = self._members[address] = self._replica_at(address)
            self._start(self._attend(replica))
        for address in self._members.keys() - addresses:
            log.info("%s is gone from its pool", address)
            replica = self._members.pop(address)
            replica.retire()
            self._let_go(replica)

    async def _attend(self, replica: R) -> None:
        """From when its address appears to when its last stream has ended."""
        watch = partial(watch_health, replica, max_pause_s=self._refresh_s)
        watching = asyncio.create_task(self._persistently(watch, replica.address))
        try:
            while not replica.is_retired:
                await self._visit_if_possible(replica)
                await replica.changed(self._refresh_s)
            watching.cancel()
            await asyncio.sleep(_LINGER_S)
            while replica.num_streams:
                await replica.changed(self._refresh_s)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await replica.channel.close()

    async def _visit_if_possible(self, replica: R) -> None:
        try:
            if replica.may_be_visited:
                await self._visit(replica)
        except Exception:  # one that answers something odd must not end the watching, nor the start
            log.exception("a bug while visiting %s", replica.address)
        if replica.health is not Health.UNKNOWN:
            replica.settled.set()
