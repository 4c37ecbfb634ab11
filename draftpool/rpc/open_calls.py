"""The calls that a server has in progress, and how they end when it shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from draftpool.errors import Draining

_REFUSED_RETRY_S = 1.0
"""By then a balancer has noticed, or the successor has started."""

_ENDED_RETRY_S = 0.25
"""By then the connection is closed too, and the next call takes another server."""

_LAST_WORDS_S = 1.0
"""How long calls that are ended may take to say so."""


class OpenCalls:
    """Refuses calls once draining, waits for those in progress, and ends them when time is up."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around a whole call, its last words included."""
        task = _current_task()
        self._tasks.add(task)
        self._is_idle.clear()
        try:
            yield
        finally:
            self._tasks.discard(task)
            self._ended.discard(task)
            if not self._tasks:
                self._is_idle.set()

    @contextmanager
    def served(self) -> Iterator[None]:
        """Around what a call does.

        Raises:
            Draining: the server takes no more calls, or ends this one; others are cancelled as by the client.
        """
        task = _current_task()
        if self._is_draining:
            raise Draining("this server is shutting down; another one will answer", retry_after_s=_REFUSED_RETRY_S)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise Draining("this server has shut down; go on elsewhere", retry_after_s=_ENDED_RETRY_S) from None

    async def drain(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Refuse new calls and return when no call is in progress any more.

        Those that still are after the grace, or when there is a hurry, end with UNAVAILABLE DRAINING. One that waits
        for its client to read cannot be told; it is left to the server's own end.
        """
        self._is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await _first(self._is_idle, hurry)
        self._ended |= self._tasks
        for task in self._ended:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._is_idle.wait()


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("calls are served by tasks")
    return task
