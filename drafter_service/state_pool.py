"""Who holds which slot. Pure bookkeeping: the tensors are the model's."""

from __future__ import annotations

from collections.abc import Iterable

from draftpool.errors import NoCapacity

_RETRY_AFTER_S = 0.5


class StatePool:
    """A fixed number of slots, each large enough for the state after any number of tokens.

    A session owns one slot for its life, and one for every stepped node of its last tree.
    """

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._free = list(reversed(range(num_slots)))

    @property
    def num_slots(self) -> int:
        return self._num_slots

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self._num_slots - len(self._free)

    def allocate(self) -> int:
        """One slot, with whatever its last owner left in it.

        Raises:
            NoCapacity: none is free.
        """
        if not self._free:
            raise NoCapacity(
                f"all {self._num_slots} state slots of this drafter are in use", retry_after_s=_RETRY_AFTER_S
            )
        return self._free.pop()

    def allocate_up_to(self, num_wanted: int) -> list[int]:
        """As many slots as there are, at most `num_wanted`."""
        num_taken = min(num_wanted, len(self._free))
        return [self._free.pop() for _ in range(num_taken)]

    def free(self, slots: Iterable[int]) -> None:
        """Give slots back; the caller held them."""
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
