"""What one replica knows of one shared group: the last snapshot, and what has not been acknowledged yet. Pure.

A delta travels at most once at a time. One that was sent and not answered may have arrived, so it is sent again as it
was, under the same number, and Redis, which notes the number of each replica's last delta in the group, merges it once.
What is learned meanwhile goes into the next delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from orchestrator.sharing.delta import Delta, change

MEMORY_S = 6 * 3600.0
"""How long Redis remembers the number of a replica's last delta after it came, in seconds."""

PATIENCE_S = 3600.0
"""How long a delta that may have arrived is sent again, in seconds: far shorter than Redis remembers its number. After
it the delta, about one flush interval of evidence, is given up rather than risked to count twice."""

_SUM_PREFIX = b"s:"


@dataclass(frozen=True)
class Snapshot:
    """A group as Redis had it.

    Attributes:
        fields: of the hash, as they came, with everything that keeps a delta from counting twice. This is what brings
            a group back when Redis has lost it.
    """

    fields: Mapping[bytes, bytes] = field(default_factory=dict)

    def sums(self) -> dict[str, float]:
        """Raises ValueError where somebody has written something else into the hash."""
        size = len(_SUM_PREFIX)
        return {
            name[size:].decode(): float(value) for name, value in self.fields.items() if name.startswith(_SUM_PREFIX)
        }


@dataclass(frozen=True)
class NumberedDelta:
    """A delta on its way.

    Attributes:
        number: from 1, growing with each delta of this replica in this group; 0 carries nothing.
        num_sent: how often it was sent.
        first_sent_s: monotonic time.
    """

    number: int
    delta: Delta
    num_sent: int = 1
    first_sent_s: float = 0.0


class SharedGroup:
    """One group of sums.

    Attributes:
        view: snapshot, then the delta on its way, then what waits: what this replica believes. Read only.
        snapshot: the last that came.
        was_used: since the last snapshot.
        pulled_s: when that came, monotonic.
    """

    def __init__(self) -> None:
        self.view: dict[str, float] = {}
        self.snapshot = Snapshot()
        self.was_used = False
        self.pulled_s = -inf
        self._waiting = Delta()
        self._on_its_way: NumberedDelta | None = None
        self._last_number = 0

    @property
    def has_changes(self) -> bool:
        """Whether something has not been acknowledged."""
        return self._on_its_way is not None or not self._waiting.is_nothing

    def is_due(self, oldest_s: float) -> bool:
        """Whether Redis should be asked: something has changed, or what is used here was fetched before `oldest_s`."""
        return self.has_changes or (self.was_used and self.pulled_s < oldest_s)

    def add(self, amounts: Mapping[str, float], keep: float) -> None:
        change(self.view, keep, amounts)
        self._waiting.then(keep, amounts)

    def send(self, now_s: float) -> NumberedDelta:
        """What to send now: again what was not answered, else all that waits; nothing (number 0) where nothing does."""
        sent = self._on_its_way
        if sent is not None and now_s - sent.first_sent_s > PATIENCE_S:
            self._on_its_way = sent = None
            self._renew_view()
        if sent is not None:
            self._on_its_way = replace(sent, num_sent=sent.num_sent + 1)
        elif not self._waiting.is_nothing:
            self._last_number += 1
            self._on_its_way = NumberedDelta(self._last_number, self._waiting, first_sent_s=now_s)
            self._waiting = Delta()
        return self._on_its_way or NumberedDelta(0, Delta())

    def acknowledge(self, snapshot: Snapshot, now_s: float) -> None:
        """The delta has been merged, and this is the group with it. Raises ValueError for what is no group."""
        snapshot.sums()
        self.snapshot, self.pulled_s, self.was_used = snapshot, now_s, False
        self._on_its_way = None
        self._renew_view()

    def refuse(self) -> None:
        """Redis answered that it did not merge. A delta that cannot have arrived by an earlier sending waits again."""
        sent = self._on_its_way
        if sent is not None and sent.num_sent == 1:
            sent.delta.then(self._waiting.keep, self._waiting.amounts)
            self._waiting, self._on_its_way = sent.delta, None

    def _renew_view(self) -> None:
        view = self.snapshot.sums()
        if self._on_its_way is not None:
            self._on_its_way.delta.apply_to(view)
        self._waiting.apply_to(view)
        self.view = view
