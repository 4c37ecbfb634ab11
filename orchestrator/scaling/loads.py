"""The load of a pool, brought up to date when it is asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import grpc

from orchestrator.fleet import Fleet
from orchestrator.replicas import Replica
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.peers import Peers
from orchestrator.scaling.signals import PoolLoad, ScaledPool

log = logging.getLogger(__name__)

_FRESH_S = 2.0
"""A report that came with a reply so recently need not be asked for."""
_ASK_TIMEOUT_S = 1.0


class PoolLoads:
    """What this orchestrator knows of pools, its peers' demand included.

    Replicas report with every reply, so those that this orchestrator works with are known; the others are asked.
    Nothing is asked unless an autoscaler asks.
    """

    def __init__(self, fleet: Fleet, demand: Demand, peers: Peers) -> None:
        self._fleet = fleet
        self._demand = demand
        self._peers = peers

    async def load(self, pool: ScaledPool) -> PoolLoad:
        """The pool's load now. A replica that does not answer counts as it last was."""
        up = [replica for replica in self._replicas(pool) if replica.is_up]
        num_requests, _ = await asyncio.gather(self._num_requests(pool), self._refresh(up))
        reports = [replica.last_report for replica in up if replica.is_up]
        return PoolLoad([report for report in reports if report is not None], num_requests)

    async def changed(self, timeout_s: float) -> None:
        """Wait until this orchestrator's demand may have changed, at most so long."""
        await self._demand.changed(timeout_s)

    def _replicas(self, pool: ScaledPool) -> list[Replica]:
        if pool.target is None:
            return [*self._fleet.drafters]
        target = self._fleet.targets.get(pool.target)
        return [] if target is None else [*target.replicas]

    async def _num_requests(self, pool: ScaledPool) -> int:
        """Drafters are for every request."""
        demands = [self._demand.num_requests, *await self._peers.demands()]
        if pool.target is None:
            return sum(sum(demand.values()) for demand in demands)
        return sum(demand.get(pool.target, 0) for demand in demands)

    async def _refresh(self, replicas: Sequence[Replica]) -> None:
        await asyncio.gather(*map(self._refresh_one, replicas))

    async def _refresh_one(self, replica: Replica) -> None:
        report = replica.last_report
        if report is not None and time.monotonic() - report.at_s < _FRESH_S:
            return
        try:
            await replica.ask_load(_ASK_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:  # its health says the rest
            log.debug("%s does not tell its load: %s", replica.address, error.details())
