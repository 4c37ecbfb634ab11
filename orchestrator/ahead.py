"""One item ahead: what comes next is computed while its predecessor is handed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Generic, Self, TypeVar

ItemT = TypeVar("ItemT")


class OneAhead(Generic[ItemT]):
    """An asynchronous generator that works on its next item from when it is told to, whether anybody waits or not.

    Leaving the context stops that work and closes the generator.

    Attributes:
        ready_at_s: since when an item waits to be taken, by `time.perf_counter`; None where none does.
    """

    def __init__(self, items: AsyncGenerator[ItemT, None]) -> None:
        self._items = items
        self._next: asyncio.Task[ItemT | None] | None = None
        self.ready_at_s: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._items.aclose()

    def begin(self) -> None:
        """Work on the next item; the last one must have been taken."""
        self._next = asyncio.create_task(self._work())

    async def take(self) -> ItemT | None:
        """The item that was begun, None at the end. Raises what the generator does."""
        if self._next is None:
            raise RuntimeError("no item was begun")
        item = await self._next
        self._next, self.ready_at_s = None, None
        return item

    async def _work(self) -> ItemT | None:
        item = await anext(self._items, None)
        self.ready_at_s = time.perf_counter()
        return item
