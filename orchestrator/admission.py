"""How many requests run, how many may wait, and that they are taken in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from draftpool.errors import NoCapacity


class Admission:
    """A bounded, first come first served queue in front of a bounded number of running requests."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self._slots = asyncio.Semaphore(max_running)
        self._max_waiting = max_waiting
        self._num_waiting = 0

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Wait for a place and hold it.

        Raises:
            NoCapacity: the queue is full.
        """
        if self._slots.locked() and self._num_waiting >= self._max_waiting:
            raise NoCapacity(f"{self._num_waiting} requests are waiting already", retry_after_s=1.0)
        self._num_waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._num_waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
