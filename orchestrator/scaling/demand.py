"""What the clients of this orchestrator want now."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress


class Demand:
    """Counts requests by target, from their arrival to their end.

    Attributes:
        orchestrator_id: of this process; orchestrators that add their demands up know themselves by it.
    """

    def __init__(self) -> None:
        self.orchestrator_id = uuid.uuid4().hex
        self._num_requests: Counter[str] = Counter()
        self._changed = asyncio.Event()

    @property
    def num_requests(self) -> Mapping[str, int]:
        """By target; those without any are missing."""
        return self._num_requests

    @contextmanager
    def counted(self, target: str) -> Iterator[None]:
        """Around a request for a target that exists: names that anybody makes up are not to be kept."""
        self._add(target, 1)
        try:
            yield
        finally:
            self._add(target, -1)

    async def changed(self, timeout_s: float) -> None:
        """Wait until a target is wanted that was not, or the other way round; at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def _add(self, target: str, number: int) -> None:
        was_wanted = target in self._num_requests
        self._num_requests[target] += number
        if self._num_requests[target] == 0:
            del self._num_requests[target]
        if was_wanted != (target in self._num_requests):
            self._changed.set()
            self._changed = asyncio.Event()
