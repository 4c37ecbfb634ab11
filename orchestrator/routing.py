"""Which of several replicas gets a request, by what is known of their load. Pure.

A replica's own word on its load (`ReplicaLoad`) comes with its replies, so it is of the past: sessions that this
orchestrator opened since are added, and what others have there counts less with age.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from draftpool.v1 import load_pb2

_HALF_LIFE_S = 5.0
"""After so long, what a report says of other orchestrators' sessions counts half: requests take seconds."""
_FRESH_S = 2.0
"""So long a replica that reported to be full is taken to be."""
_SLACK_SHARE = 0.25
_SLACK_REQUESTS = 2.0

T = TypeVar("T")


class Load(NamedTuple):
    """Smaller is better; full replicas come last.

    Attributes:
        num_requests: sessions there and requests waiting for the model, as an estimate.
    """

    is_full: bool
    num_requests: float


@dataclass(frozen=True)
class LoadReport:
    """What a replica said of itself.

    Attributes:
        num_own_sessions: how many of its sessions were this orchestrator's at that time.
        at_s: when, by the caller's clock.
        busy_share, budget_share, queue_s: as in `ReplicaLoad`; pools are scaled by them, and routing does not look.
    """

    num_sessions: int
    max_sessions: int
    num_waiting: int
    num_own_sessions: int
    at_s: float
    busy_share: float = 0.0
    budget_share: float = 0.0
    queue_s: float = 0.0

    @classmethod
    def from_wire(cls, load: load_pb2.ReplicaLoad, *, num_own_sessions: int, at_s: float) -> LoadReport:
        return cls(
            load.num_sessions,
            load.max_sessions,
            load.num_waiting,
            num_own_sessions,
            at_s,
            load.busy_share,
            load.budget_share,
            load.queue_us / 1e6,
        )


def estimated_load(report: LoadReport | None, *, num_own_sessions: int, now_s: float) -> Load:
    """The last report brought up to date.

    Args:
        num_own_sessions: this orchestrator's sessions there now, which it knows for sure.
    """
    if report is None:
        return Load(False, num_own_sessions)
    age_s = max(0.0, now_s - report.at_s)
    num_others = max(0, report.num_sessions - report.num_own_sessions)
    is_full = age_s < _FRESH_S and 0 < report.max_sessions <= num_others + num_own_sessions
    return Load(is_full, num_own_sessions + (num_others + report.num_waiting) * 0.5 ** (age_s / _HALF_LIFE_S))


def power_of_two(candidates: Sequence[T], load: Callable[[T], Load]) -> T:
    """The less loaded of two that are drawn at random, of those that are not full where there are any.

    Nearly as even as taking the least loaded of all, without every orchestrator running to the same replica at
    once (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 1996).

    Args:
        candidates: at least one.
    """
    roomy = [candidate for candidate in candidates if not load(candidate).is_full] or candidates
    return min(random.sample(roomy, min(2, len(roomy))), key=load)


def is_worth_it(holder: Load, others: Sequence[Load]) -> bool:
    """Whether the replica that holds a prompt's prefix should get it although another is less loaded.

    It should while it is not full and has at most a quarter more than the least loaded one, and two requests
    besides. So a prefix that everybody shares does not gather everybody at one replica: the surplus goes elsewhere,
    and takes the prefix along.
    """
    least = min((load.num_requests for load in others), default=holder.num_requests)
    return not holder.is_full and holder.num_requests <= (1 + _SLACK_SHARE) * least + _SLACK_REQUESTS
