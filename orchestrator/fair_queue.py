"""Who waits for a place, who gets the next one, and who has to go when it is full. Pure; the caller has the clock.

Order: the most urgent class first; within it the client that was served longest ago; of one client, the request that
came first. A request climbs one class for every `lift_s` seconds that it waits, so urgency never starves anybody.
Room: a full queue takes it from the client that holds most of it, its least urgent and newest request first; a client
below its share always finds room.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from itertools import count


class Priority(IntEnum):
    """How urgent a request is; the smaller, the sooner."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


@dataclass(frozen=True, eq=False)
class Ticket:
    """A request in the queue.

    Attributes:
        client: whose share it takes.
        since_s: when it came, by the caller's clock.
        number: tickets are numbered in the order they came.
    """

    client: str
    priority: Priority
    since_s: float
    number: int


class FairQueue:
    """A bounded queue of requests from several clients, of several priorities."""

    def __init__(self, *, max_waiting: int, lift_s: float) -> None:
        self._max_waiting = max_waiting
        self._lift_s = lift_s
        self._lines: dict[tuple[str, Priority], dict[Ticket, None]] = {}  # each in the order they came
        self._served: dict[str, int] = {}  # of every client that waits: the turn it was last served at, or came at
        self._unbounded: set[Ticket] = set()
        self._turns = count()
        self._numbers = count()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def num_waiting(self, priority: Priority) -> int:
        return sum(len(line) for (_, of), line in self._lines.items() if of is priority)

    def ticket(self, client: str, priority: Priority, now_s: float) -> Ticket:
        """A request's place in the order, from its arrival on; it is not in the queue yet."""
        return Ticket(client, priority, now_s, next(self._numbers))

    def push(self, ticket: Ticket, *, is_bounded: bool = True) -> Ticket | None:
        """Let a request wait. One that gave its turn back is not bounded: it keeps its age, and is not sent away.

        Returns:
            Who had to leave because the queue was full, possibly the newcomer; mostly None.
        """
        line = self._lines.setdefault((ticket.client, ticket.priority), {})
        line[ticket] = None
        if not is_bounded:
            self._unbounded.add(ticket)
            in_order = sorted(line, key=lambda waiting: waiting.number)
            self._lines[ticket.client, ticket.priority] = dict.fromkeys(in_order)
        self._served.setdefault(ticket.client, next(self._turns))
        if not is_bounded or len(self) <= self._max_waiting:
            return None
        victim = self._least_entitled(newcomer=ticket.client)
        self.remove(victim)
        return victim

    def pop(self, now_s: float) -> Ticket:
        """Take out the request whose turn it is.

        Raises:
            LookupError: nobody waits.
        """
        heads = [next(iter(line)) for line in self._lines.values()]
        if not heads:
            raise LookupError("nobody waits")
        ticket = min(heads, key=lambda head: (self._level(head, now_s), self._served[head.client], head.number))
        self._served[ticket.client] = next(self._turns)
        self.remove(ticket)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Take out a request that no longer waits. Raises KeyError when it is not in the queue."""
        line = self._lines[ticket.client, ticket.priority]
        del line[ticket]
        self._unbounded.discard(ticket)
        if not line:
            del self._lines[ticket.client, ticket.priority]
            if not any(client == ticket.client for client, _ in self._lines):
                del self._served[ticket.client]

    def _level(self, ticket: Ticket, now_s: float) -> int:
        """Its class, less one for every `lift_s` that it has waited, down to the most urgent."""
        return max(Priority.INTERACTIVE, ticket.priority - int((now_s - ticket.since_s) / self._lift_s))

    def _least_entitled(self, newcomer: str) -> Ticket:
        """Of the client with the most requests (the newcomer's where several have), the least urgent and newest."""
        removable = [ticket for line in self._lines.values() for ticket in line if ticket not in self._unbounded]
        num_held = Counter(ticket.client for ticket in removable)
        client = max(num_held, key=lambda client: (num_held[client], client == newcomer))
        own = (ticket for ticket in removable if ticket.client == client)
        return max(own, key=lambda ticket: (ticket.priority, ticket.number))
