"""The client as a reader: generation goes at its pace, and holds nothing while it does not read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator import metrics
from orchestrator.admission import Place
from orchestrator.generation import Generation

log = logging.getLogger(__name__)


class Reader:
    """Watches how long replies wait to be taken.

    A reply is handed to gRPC, which takes it as soon as HTTP/2's flow control has room for it; the next round begins
    only then. Under way to a client that does not read are therefore one reply here, and what the client's own window
    has let through. Past a while both model sessions are closed and the place is given to the next request; all that is
    left is the token list, from which the sessions are opened again when the client reads on.

    Attributes:
        waited_s: for the client to take replies, all together, in seconds.
    """

    def __init__(self, generation: Generation, place: Place, *, slow_after_s: float) -> None:
        self._generation = generation
        self._place = place
        self._slow_after_s = slow_after_s
        self._is_away = False
        self.waited_s = 0.0

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        """Around the hand-over of one reply; after it the request holds a place again."""
        began = time.perf_counter()
        timer = asyncio.get_running_loop().call_later(self._slow_after_s, self._pause)
        try:
            yield
        finally:
            timer.cancel()
            self.waited_s += time.perf_counter() - began
            if self._is_away:
                self._is_away = False
                metrics.PAUSED.dec()
        await self._place.take()

    def _pause(self) -> None:
        log.info("the client has not read for %g s; its place and sessions are given back", self._slow_after_s)
        self._is_away = True
        metrics.PAUSED.inc()
        self._generation.pause()
        self._place.give_back()
