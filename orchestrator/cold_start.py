"""How a request finds its target, and waits for one that has no replica now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from draftpool.errors import NoCapacity, Unavailable
from orchestrator import metrics
from orchestrator.fleet import Fleet, Target
from orchestrator.scaling.demand import Demand

_RETRY_AFTER_S = 5.0


@dataclass(frozen=True)
class Found:
    """A target that is up.

    Attributes:
        waited_s: until it was.
    """

    target: Target
    waited_s: float


class ColdStarts:
    """Targets by name, of which some may be scaled to zero.

    Such a target is known by the settings, or because it was served before. Nothing of a request can be checked before
    its target is there: the tokenizer comes with it.
    """

    def __init__(
        self,
        fleet: Fleet,
        demand: Demand,
        *,
        cold_targets: Collection[str],
        cold_start_s: float,
        recovery_s: float,
        max_waiting: int,
    ) -> None:
        """
        Args:
            cold_targets: names that may be asked for before any replica was seen.
            cold_start_s: the longest wait for a pool that has been scaled to zero.
            recovery_s: the same for one that has replicas which do not answer.
            max_waiting: requests that may wait, for all targets together.
        """
        self._fleet = fleet
        self._demand = demand
        self._cold_targets = frozenset(cold_targets)
        self._cold_start_s = cold_start_s
        self._recovery_s = recovery_s
        self._max_waiting = max_waiting
        self._num_waiting = 0

    @asynccontextmanager
    async def found(self, name: str) -> AsyncIterator[Found]:
        """The target of a request, which counts as demand for it from here to the context's end.

        Raises:
            UnknownModel: there is no such target.
            NoCapacity: too many requests wait for targets to start.
            Unavailable: it did not start in time; says when to come again.
        """
        if name not in self._cold_targets:
            self._fleet.target(name, others=self._cold_targets)
        with self._demand.counted(name):
            began_s = time.monotonic()
            target = await self._up(name)
            yield Found(target, time.monotonic() - began_s)

    @property
    def cold_names(self) -> list[str]:
        """Targets that start when they are asked for."""
        return sorted(name for name in self._cold_targets if not self._is_up(name))

    def _is_up(self, name: str) -> bool:
        return name in self._fleet.targets and self._fleet.targets[name].is_up

    async def _up(self, name: str) -> Target:
        if self._is_up(name):
            return self._fleet.targets[name]
        if self._num_waiting >= self._max_waiting:
            raise NoCapacity(
                f"{self._num_waiting} requests wait for targets to start already", retry_after_s=_RETRY_AFTER_S
            )
        wait_s = self._patience_s(name)
        self._num_waiting += 1
        try:
            with metrics.COLD_WAITING.labels(name).track_inprogress(), metrics.COLD_START_SECONDS.labels(name).time():
                async with asyncio.timeout(wait_s):
                    return await self._fleet.until_up(name)
        except TimeoutError:
            raise Unavailable(
                f"no replica of {name!r} has come up within {wait_s:g} s", retry_after_s=_RETRY_AFTER_S
            ) from None
        finally:
            self._num_waiting -= 1

    def _patience_s(self, name: str) -> float:
        """A target whose replicas are gone has been scaled to zero; replicas that do not answer are broken."""
        known = self._fleet.targets.get(name)
        return self._recovery_s if name not in self._cold_targets and known and known.replicas else self._cold_start_s
