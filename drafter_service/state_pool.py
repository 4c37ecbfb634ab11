"""Who holds which slot. Pure bookkeeping: the tensors are the model's."""

from __future__ import annotations

from collections.abc import Iterable

from draftpool.errors import BadParameter, NoCapacity

_RETRY_AFTER_S = 0.5


class StatePool:
    """A fixed number of slots, each large enough for the state after any number of tokens.

    A session owns one slot for its life, and one for every stepped node of its last tree. One slot is kept aside
    for every session that may still open, so trees can never shut a session out.

    Raises:
        BadParameter: fewer slots than sessions.
    """

    def __init__(self, num_slots: int, max_sessions: int) -> None:
        if num_slots < max_sessions:
            raise BadParameter(f"{num_slots} state slots are too few for {max_sessions} sessions; each needs one")
        self._num_slots = num_slots
        self._max_sessions = max_sessions
        self._num_sessions = 0
        self._free = list(reversed(range(num_slots)))

    @property
    def num_slots(self) -> int:
        return self._num_slots

    @property
    def num_used(self) -> int:
        return self._num_slots - len(self._free)

    @property
    def max_sessions(self) -> int:
        return self._max_sessions

    @property
    def num_sessions(self) -> int:
        return self._num_sessions

    @property
    def num_free_for_trees(self) -> int:
        return len(self._free) - (self._max_sessions - self._num_sessions)

    def open_session(self) -> int:
        """A slot for a new session, with whatever its last owner left in it.

        Raises:
            NoCapacity: as many sessions are open as may be.
        """
        if self._num_sessions == self._max_sessions:
            raise NoCapacity(
                f"this drafter takes {self._max_sessions} sessions and has them", retry_after_s=_RETRY_AFTER_S
            )
        self._num_sessions += 1
        return self._free.pop()

    def close_session(self, slots: Iterable[int]) -> None:
        """Give back all slots of one session."""
        self._num_sessions -= 1
        self._free.extend(slots)

    def take_for_level(self, num_nodes: int) -> list[int]:
        """Slots for a whole level of a tree; none at all when there are not enough."""
        if num_nodes > self.num_free_for_trees:
            return []
        return [self._free.pop() for _ in range(num_nodes)]

    def give_back(self, slots: Iterable[int]) -> None:
        """Free slots of a tree; the caller held them."""
        self._free.extend(slots)

    def check_integrity(self, held_slots: Iterable[int]) -> None:
        """Check that every slot is free or held, and none is both or held twice.

        Args:
            held_slots: all slots that the sessions say they hold.

        Raises:
            RuntimeError: a slot leaked or was handed out twice.
        """
        accounted = sorted([*self._free, *held_slots])
        if accounted != list(range(self._num_slots)):
            raise RuntimeError(f"free and held slots are {accounted}, not each of {self._num_slots} once")
