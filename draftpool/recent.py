"""Shares and means of the last seconds, as scaling wants them. Pure: the clock is the caller's.

All fade exponentially: what was `fading_s` ago counts 1/e of what is now. Updating one costs about a microsecond, so
they can be kept in hot paths; each is written by one thread and may be read by others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

FADING_S = 10.0
"""Longer than a burst of rounds, shorter than the interval at which autoscalers look."""


class _Faded(NamedTuple):
    """A value as it was at a time."""

    value: float
    at_s: float

    def at(self, now_s: float, fading_s: float) -> float:
        return self.value * math.exp(-max(0.0, now_s - self.at_s) / fading_s)


_NOTHING = _Faded(0.0, -math.inf)


@dataclass(eq=False)
class RecentShare:
    """Which share of the last seconds something was in use, 0 to 1."""

    fading_s: float = FADING_S
    _past: _Faded = _NOTHING

    def add(self, begun_s: float, now_s: float, *, weight: float = 1.0) -> None:
        """It was in use from `begun_s` to now; `weight` says how much of it, 0 to 1."""
        used = 1 - math.exp(-max(0.0, now_s - begun_s) / self.fading_s)
        self._past = _Faded(self.at(now_s) + weight * used, now_s)

    def at(self, now_s: float) -> float:
        return self._past.at(now_s, self.fading_s)


@dataclass(eq=False)
class RecentMean:
    """The mean of what was observed in the last seconds; it goes to 0 when nothing is observed any more.

    As long as a few observations are recent it is their mean. When they get older, less than one of them is left, and
    what is missing to one counts as 0: a pool that nobody asks has no queue.
    """

    fading_s: float = FADING_S
    _sum: _Faded = _NOTHING
    _count: _Faded = _NOTHING

    def observe(self, value: float, now_s: float) -> None:
        self._sum = _Faded(self._sum.at(now_s, self.fading_s) + value, now_s)
        self._count = _Faded(self._count.at(now_s, self.fading_s) + 1, now_s)

    def at(self, now_s: float) -> float:
        return self._sum.at(now_s, self.fading_s) / max(1.0, self._count.at(now_s, self.fading_s))
