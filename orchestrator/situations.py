"""Which bandit a request asks, and that it knows what others have learned before the first one comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.bandit import BanditRegistry, TreeBandit
from orchestrator.bandit.tree_bandit import Situation
from orchestrator.fleet import Fleet, Target
from orchestrator.requests import SamplingClass


class Situations:
    """The bandits of whatever the fleet can serve at present."""

    def __init__(self, fleet: Fleet, bandits: BanditRegistry) -> None:
        self._fleet = fleet
        self._bandits = bandits

    def bandit(self, target: Target, sampling: SamplingClass) -> TreeBandit:
        """The one that chooses for such requests, and learns from them."""
        return self._bandits.bandit(
            Situation(target.name, self._fleet.drafter_models, sampling),
            min(target.description.max_tree_nodes, self._fleet.max_draft_nodes),
            only_fixed=sampling is SamplingClass.REJECTION,
        )

    @asynccontextmanager
    async def recalled(self) -> AsyncIterator[None]:
        """Until the context ends, have what is known of a target fetched as soon as it is served, or drafted for
        otherwise: a store that has to ask for it would leave the first request's first rounds to chance."""
        recalling = asyncio.create_task(self._keep_recalling())
        try:
            yield
        finally:
            recalling.cancel()
            await asyncio.gather(recalling, return_exceptions=True)

    async def _keep_recalling(self) -> None:
        while True:
            for target in self._fleet.targets.values():
                for sampling in SamplingClass:
                    self.bandit(target, sampling).recall()
            await self._fleet.changed()
