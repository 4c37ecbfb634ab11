"""What a pool is scaled by, and when it is wanted at all. Pure.

Every signal is a sum over the pool's replicas, and its threshold is what one replica should have of it: an autoscaler
that divides the one by the other (`AverageValue`, as KEDA does unless told otherwise) wants
`ceil(sum / threshold)` replicas. A replica that is lost takes nothing away from the sum for long, since its sessions
are then another one's work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from draftpool.errors import BadParameter
from orchestrator.routing import LoadReport

_DRAFTER_DEFAULTS = {"busyShare": 0.7, "queueMs": 10.0}
_VERIFIER_DEFAULTS = {"budgetShare": 0.7, "queueMs": 250.0}
_VERIFIER_ONLY_IF_GIVEN = {"requests"}

_OF_KEDA = {"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"}
"""What KEDA itself reads in the same place, and passes on."""


@dataclass(frozen=True)
class ScaledPool:
    """The pool that a trigger is about.

    Attributes:
        target: whose verifiers; None for the drafters.
        thresholds: what one replica should have of each signal, by the key of the trigger's metadata.
    """

    target: str | None
    thresholds: Mapping[str, float]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ScaledPool:
        """Raises BadParameter, with what would be right."""
        given = {key: value for key, value in metadata.items() if key not in _OF_KEDA}
        pool, target = given.pop("pool", None), given.pop("target", None)
        if (pool is None) == (target is None) or pool not in (None, "drafter") or target == "":
            raise BadParameter('the metadata must say either pool: "drafter" or target: the name of a target')
        defaults = _DRAFTER_DEFAULTS if target is None else _VERIFIER_DEFAULTS
        known = set(defaults) | (set() if target is None else _VERIFIER_ONLY_IF_GIVEN)
        unknown = sorted(set(given) - known)
        if unknown:
            raise BadParameter(f"unknown metadata: {', '.join(unknown)}; this pool has {', '.join(sorted(known))}")
        return cls(target, defaults | {key: _threshold(key, value) for key, value in given.items()})


@dataclass(frozen=True)
class PoolLoad:
    """What is known of a pool.

    Attributes:
        reports: the last one of every replica that is up.
        num_requests: for the pool, at all orchestrators, those that wait among them.
    """

    reports: Sequence[LoadReport]
    num_requests: int

    @property
    def num_wanted(self) -> int:
        """Requests, or the sessions that the replicas tell of, where an orchestrator could not be asked."""
        return max(self.num_requests, sum(report.num_sessions for report in self.reports))


NOTHING_KNOWN = PoolLoad((), 0)


@dataclass(frozen=True)
class Signal:
    """One metric as an autoscaler gets it.

    Attributes:
        value: of the whole pool.
        threshold: what one replica should have.
    """

    name: str
    value: float
    threshold: float


def signals(pool: ScaledPool, load: PoolLoad) -> list[Signal]:
    """The pool's signals, in a fixed order; there are as many when it has no replica."""
    return [Signal(name, value, pool.thresholds[key]) for key, name, value in _measured(pool, load)]


def is_wanted(load: PoolLoad) -> bool:
    """Whether the pool should have a replica at all: somebody waits for one, or is served."""
    return load.num_wanted > 0


def _measured(pool: ScaledPool, load: PoolLoad) -> list[tuple[str, str, float]]:
    """(key of the threshold, name, value) of the signals that have a threshold."""
    reports = load.reports
    queue_ms = 1e3 * sum(report.queue_s for report in reports)
    if pool.target is None:
        measured = [
            ("busyShare", "draftpool-drafter-busy-share", sum(report.busy_share for report in reports)),
            ("queueMs", "draftpool-drafter-queue-ms", queue_ms),
        ]
    else:
        measured = [
            ("budgetShare", "draftpool-verifier-budget-share", sum(report.budget_share for report in reports)),
            ("queueMs", "draftpool-verifier-queue-ms", queue_ms),
            ("requests", "draftpool-verifier-requests", float(load.num_wanted)),
        ]
    return [entry for entry in measured if entry[0] in pool.thresholds]


def _threshold(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise BadParameter(f"{key} must be a number above 0, not {text!r}")
    return value
