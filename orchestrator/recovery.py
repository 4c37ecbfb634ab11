"""When to try again after an exchange has failed, and when to give up. Pure: the clock is the caller's."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from draftpool.errors import ContextLost, DraftpoolError, NoCapacity

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 0.25
_MAX_CONTEXTS_LOST_AT_ONCE = 2
_MAX_CONTEXTS_LOST = 8
_RETRY_AFTER_S = 1.0


@dataclass
class Recovery:
    """The way from an exchange's first failure to its success.

    While there is another replica it is tried at once. Without one, pauses double, and are spread so that requests
    which failed together do not come back together; a full service says how long they should be at least. A context
    that was lost is sent again at once, a few times.

    Attributes:
        patience_s: counted from the first failure.
        num_lost: failures so far.
    """

    patience_s: float
    num_lost: int = 0
    _num_contexts_lost: int = 0
    _num_pauses: int = 0
    _first_failed_s: float | None = field(default=None, init=False)

    def pause_s(self, error: DraftpoolError, *, has_another: bool, now_s: float) -> float:
        """How long to wait before the next attempt.

        Args:
            has_another: a replica is up which has not failed on the way.
            now_s: any clock that only advances.

        Raises:
            DraftpoolError: `error`, when the patience is over or contexts were lost too often in a row. It says when
                to come again.
        """
        self.num_lost += 1
        if self._first_failed_s is None:
            self._first_failed_s = now_s
        is_context_lost = isinstance(error, ContextLost)
        self._num_contexts_lost = self._num_contexts_lost + 1 if is_context_lost else 0
        if self._num_contexts_lost > _MAX_CONTEXTS_LOST:
            raise error
        may_be_at_once = self._num_contexts_lost <= _MAX_CONTEXTS_LOST_AT_ONCE if is_context_lost else has_another
        pause_s = 0.0 if may_be_at_once else self._next_pause_s(error)
        if now_s + pause_s > self._first_failed_s + self.patience_s:
            error.retry_after_s = error.retry_after_s or _RETRY_AFTER_S
            raise error
        return pause_s

    def _next_pause_s(self, error: DraftpoolError) -> float:
        doubled_s: float = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0**self._num_pauses)
        self._num_pauses += 1
        hint_s = error.retry_after_s or 0.0 if isinstance(error, NoCapacity) else 0.0
        return max(hint_s, doubled_s) * random.uniform(1.0, 1.5)
