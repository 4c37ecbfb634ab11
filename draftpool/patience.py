"""Whether, and when, a client tries again. Pure but for the clock and the dice, which can be given."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from draftpool.errors import (
    ConnectionLost,
    DraftpoolError,
    Draining,
    NoCapacity,
    NoSecureConnection,
    NothingAnswers,
    Unavailable,
    UnknownModel,
)

_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0


@dataclass(frozen=True)
class Patience:
    """How long a client goes on trying, in seconds; 0 lets it give up at once.

    Attributes:
        lost_s: to continue a generation whose stream broke or whose server shuts down, and to reach again a server that
            has answered this client before, counted from there; every reply that arrives renews it.
        full_s: to be admitted by a server that has no capacity, at the times that it names.
    """

    lost_s: float = 30.0
    full_s: float = 0.0


class Retries:
    """The attempts of one generation.

    A broken stream and a server that shuts down are reasons to ask again, and from there on whatever a server says that
    has just started or is just as lost: nothing answers, no verifier yet, the model not yet known, no capacity.
    Everything else is the answer. That nothing can be reached is an answer too, by a wrong address, until something has
    answered there.

    Args:
        was_reached: a server at this address has answered before.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        was_reached: bool = False,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._patience = patience
        self._was_reached = was_reached
        self._clock = clock
        self._dice = dice
        self.progress()

    def progress(self) -> None:
        """A reply arrived."""
        self._has_lost = False
        self._failing_since_s: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def pause_s(self, error: DraftpoolError) -> float:
        """How long to wait before the next attempt; a little by chance, or all clients of a server come back at once.

        Raises:
            DraftpoolError: the error itself, where it is an answer or patience has ended.
        """
        now_s = self._clock()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        self._has_lost |= isinstance(error, ConnectionLost | Draining)
        self._has_lost |= self._was_reached and isinstance(error, NothingAnswers | NoSecureConnection)
        pause_s = max(self._pause_s, error.retry_after_s or 0.0) * (1 + self._dice() / 2)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        if now_s + pause_s - self._failing_since_s > self._limit_s(error):
            raise error
        return pause_s

    def _limit_s(self, error: DraftpoolError) -> float:
        if self._has_lost and isinstance(error, Unavailable | NoCapacity | UnknownModel):
            return self._patience.lost_s
        return self._patience.full_s if isinstance(error, NoCapacity) else 0.0
