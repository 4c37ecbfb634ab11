"""A source of addresses in a test's hands."""

import asyncio
from collections.abc import AsyncIterator

from tests.unit.orchestrator.fake_services import FakeService


class ToldAddresses:
    """A source in the test's hands."""

    def __init__(self, *services: FakeService) -> None:
        self._sets: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.tell(*services)

    def tell(self, *services: FakeService) -> None:
        self._sets.put_nowait(frozenset(service.address for service in services))

    async def watch(self) -> AsyncIterator[frozenset[str]]:
        while True:
            yield await self._sets.get()
