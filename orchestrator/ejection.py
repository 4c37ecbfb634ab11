"""How long replicas that fail sit out. Pure: the clock is the caller's.

A failure puts a replica out; each further one doubles the time, successes halve it again. A pool lets only a
share of its replicas sit out at once: where all fail, the fault is likely elsewhere, and a doubtful replica is
better than none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

_HASTE = 8
"""What a pool cannot spare comes back after this part of the time, and never later than after the first time."""


@dataclass(frozen=True)
class EjectionPolicy:
    """How long, and how many at once.

    Attributes:
        first_s: time out after the first failure; it doubles with each further one.
        max_s: the longest.
        max_share: of a pool's replicas that may sit out at the same time, rounded down.
        jitter: times are stretched by up to this share, so that not all orchestrators come back at once.
        num_forgiving: successes in a row that take one doubling back.
    """

    first_s: float = 1.0
    max_s: float = 30.0
    max_share: float = 0.5
    jitter: float = 0.2
    num_forgiving: int = 16

    def time_out_s(self, num_failures: int) -> float:
        """After that many failures, at least one, without jitter."""
        return min(self.max_s, math.ldexp(self.first_s, min(num_failures, 64) - 1))


@dataclass(eq=False)
class FailureRecord:
    """One replica's failures and until when they keep it out, in seconds of the caller's clock.

    Attributes:
        num_failures: in a row, less what successes have taken back.
        ejected_until_s: it sits out until then if its pool can spare it.
        resting_until_s: it does so even if the pool cannot.
    """

    policy: EjectionPolicy
    num_failures: int = 0
    ejected_until_s: float = -math.inf
    resting_until_s: float = -math.inf
    _num_successes: int = field(default=0, init=False)

    def fail(self, now_s: float) -> None:
        self.num_failures += 1
        self._num_successes = 0
        stretch = 1 + random.random() * self.policy.jitter
        time_out_s = stretch * self.policy.time_out_s(self.num_failures)
        self.ejected_until_s = now_s + time_out_s
        self.resting_until_s = now_s + min(time_out_s / _HASTE, self.policy.first_s)

    def succeed(self) -> None:
        if not self.num_failures:
            return
        self._num_successes += 1
        if self._num_successes >= self.policy.num_forgiving:
            self.num_failures -= 1
            self._num_successes = 0

    def is_ejected(self, now_s: float) -> bool:
        return now_s < self.ejected_until_s


def may_return(record: FailureRecord, pool: Sequence[FailureRecord], *, num_others_up: int, now_s: float) -> bool:
    """Whether a replica's time is over, or is cut short because its pool cannot spare it.

    Of those whose time is not over, the share that the policy allows sit it out, longest first; nobody does
    while no other replica of the pool is up.

    Args:
        pool: the records of the pool's replicas, this one among them.
        num_others_up: how many of the others take requests now.
    """
    if not record.is_ejected(now_s):
        return True
    if now_s < record.resting_until_s:
        return False
    if num_others_up == 0:
        return True
    ejected = sorted((r for r in pool if r.is_ejected(now_s)), key=lambda r: r.ejected_until_s, reverse=True)
    max_ejected = math.floor(record.policy.max_share * len(pool))
    return record not in ejected[:max_ejected]
