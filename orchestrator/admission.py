"""Who generates now, who waits for a place and who is refused. `fair_queue` decides the order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from draftpool.errors import NoCapacity
from orchestrator import metrics
from orchestrator.fair_queue import FairQueue, Priority, Ticket

_MIN_RETRY_S = 0.5
_MAX_RETRY_S = 60.0
_NEWEST_SHARE = 0.1
"""Weight of the newest request in the mean time that requests hold a place."""


class Admission:
    """A bounded number of places, and a fair, bounded queue for them.

    A place that becomes free goes straight to the request whose turn it is; who leaves the queue, because it was
    cancelled or its deadline passed, costs nobody a turn.
    """

    def __init__(
        self, *, max_running: int, max_waiting: int, lift_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_running = max_running
        self._queue = FairQueue(max_waiting=max_waiting, lift_s=lift_s)
        self._clock = clock
        self._turns: dict[Ticket, asyncio.Future[None]] = {}  # of everybody in the queue
        self._num_running = 0
        self._mean_hold_s: float | None = None

    @asynccontextmanager
    async def admitted(self, client: str, priority: Priority) -> AsyncIterator[Place]:
        """Wait for a place and hold it.

        Raises:
            NoCapacity: the queue is full of requests that are more entitled; says when to come again.
        """
        place = Place(self, self._queue.ticket(client, priority, self._clock()))
        await place.take()
        try:
            yield place
        finally:
            place.give_back()

    @property
    def retry_after_s(self) -> float:
        """When all that wait now will have had their turn, going by how long requests held a place lately."""
        turn_s = (self._mean_hold_s or 0.0) / self._max_running
        return min(max(turn_s * (len(self._queue) + 1), _MIN_RETRY_S), _MAX_RETRY_S)

    async def enter(self, ticket: Ticket, *, is_bounded: bool) -> float:
        """A place, at once or when the ticket's turn comes.

        Args:
            is_bounded: whether a full queue may send somebody away for it.

        Returns:
            Now, by this admission's clock, in seconds; `leave` takes it back.

        Raises:
            NoCapacity: it was sent away itself, now or later.
        """
        if self._num_running < self._max_running:
            self._num_running += 1
            metrics.RUNNING.set(self._num_running)
        else:
            leaving = self._queue.push(ticket, is_bounded=is_bounded)
            if leaving is not None:
                self._send_away(leaving, newcomer=ticket)
            await self._turn_of(ticket)
        return self._clock()

    def leave(self, since_s: float) -> None:
        """Give a place back that was held since then."""
        held_s = self._clock() - since_s
        mean_s = held_s if self._mean_hold_s is None else self._mean_hold_s
        self._mean_hold_s = mean_s + _NEWEST_SHARE * (held_s - mean_s)
        self._pass_on()

    def _send_away(self, leaving: Ticket, newcomer: Ticket) -> None:
        metrics.REFUSED.labels(_name(leaving)).inc()
        error = NoCapacity(f"{len(self._queue)} requests are waiting already", retry_after_s=self.retry_after_s)
        if leaving is newcomer:
            raise error
        turn = self._turns.pop(leaving)
        if not turn.done():  # it may just have been cancelled
            turn.set_exception(error)

    async def _turn_of(self, ticket: Ticket) -> None:
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        self._count_waiting(ticket)
        try:
            await turn
        except asyncio.CancelledError:
            if self._turns.pop(ticket, None) is not None:
                self._queue.remove(ticket)
            elif not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # the place came in the same moment
            raise
        finally:
            self._count_waiting(ticket)

    def _pass_on(self) -> None:
        """A place is free: to the next in the queue who is still there, else it stays free."""
        while self._turns:
            turn = self._turns.pop(self._queue.pop(self._clock()))
            if not turn.done():
                turn.set_result(None)
                return
        self._num_running -= 1
        metrics.RUNNING.set(self._num_running)

    def _count_waiting(self, ticket: Ticket) -> None:
        metrics.WAITING.labels(_name(ticket)).set(self._queue.num_waiting(ticket.priority))


class Place:
    """A request's right to generate, which it may give back for a while.

    Attributes:
        waited_s: for it, all times together.
    """

    def __init__(self, admission: Admission, ticket: Ticket) -> None:
        self._admission = admission
        self._ticket = ticket
        self._held_since_s: float | None = None
        self._was_held = False
        self.waited_s = 0.0

    async def take(self) -> None:
        """Wait for it; nothing to wait for while it is held. Raises NoCapacity, the first time only."""
        if self._held_since_s is not None:
            return
        began = time.perf_counter()
        self._held_since_s = await self._admission.enter(self._ticket, is_bounded=not self._was_held)
        self._was_held = True
        waited_s = time.perf_counter() - began
        self.waited_s += waited_s
        metrics.QUEUE_SECONDS.labels(_name(self._ticket)).observe(waited_s)

    def give_back(self) -> None:
        """Leave it to whoever waits; nothing to leave where it is not held."""
        if self._held_since_s is not None:
            self._admission.leave(self._held_since_s)
            self._held_since_s = None


def _name(ticket: Ticket) -> str:
    return ticket.priority.name.lower()
