"""Sums that several orchestrators add to: read and written here, merged through Redis in the background.

`view` and `add` touch this process alone. Every so often a task merges what has changed and fetches what others have
merged, one call a group. What makes it count exactly once:

- **An answer is lost.** Redis notes, beside the sums, the number of each replica's last delta. A delta that was not
  answered is sent again as it was under its number; Redis merges a number once (`shared_group`).
- **Redis has lost the group**: it restarted empty, or nobody asked for the group in its lifetime. Each call brings the
  caller's last snapshot; the first to arrive puts the group back, and the others find it there. The snapshot has the
  numbers of everybody's last deltas in it, so that a delta that is in it, but whose answer was lost, is known when it
  comes again. What others merged after that snapshot, about a flush interval, is lost. A new replica, which has no
  snapshot, may begin the group from nothing before that; then the first snapshot to arrive is added, faded by what has
  faded since. That it is not in there already is told by its origins: a group bears the mark of whoever began it.
- **Redis went back in time**, to its last save or to a replica of it that lagged. What came after is lost, in the sums
  and in the numbers alike, so that what comes again is merged once. The next answers replace the snapshots.
- **A delta is not answered for an hour.** It is given up, for Redis forgets numbers after six: evidence may be lost,
  and never counts twice. It is one flush interval's: while Redis does not answer, no delta sets out.

Nothing is worse than each process alone: without Redis a group goes on from its last snapshot and the additions made
here, which take the memory of one delta.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from math import isfinite
from typing import Literal, Self

from redis.backoff import EqualJitterBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from orchestrator.sharing import metrics
from orchestrator.sharing.address import parse_redis_url
from orchestrator.sharing.client import open_client
from orchestrator.sharing.condition import Condition, Trouble
from orchestrator.sharing.merge import Client, merge
from orchestrator.sharing.shared_group import SharedGroup

log = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 5.0
"""Longest wait for one call, connecting included; the client's own limits are within."""

_REFRESH_S = 10.0

_FAREWELL_S = 2.0
"""Longest wait for the last merges when the process ends, in seconds."""

_HANG_UP_S = 1.0
"""Longest wait for connections to close, in seconds."""

_MAX_DOUBLINGS = 10
"""Of the pause between failures, which ends growing long before."""

_UNREACHABLE = (RedisError, RedisClusterException, OSError, TimeoutError)


class RedisSums:
    """Implements `Sums`. One asyncio loop uses it; no call of `view` or `add` ever waits."""

    def __init__(
        self,
        client: Client,
        condition: Condition,
        *,
        flush_interval_s: float,
        lifetime_s: int,
        refresh_s: float = _REFRESH_S,
    ) -> None:
        """Args:
        flush_interval_s: between two rounds of merges, give or take a quarter.
        lifetime_s: after which Redis drops a group that nobody asks for.
        refresh_s: after which a group that is used here is fetched although nothing was added to it.
        """
        self._client = client
        self._condition = condition
        self._flush_interval_s = flush_interval_s
        self._lifetime_s = lifetime_s
        self._refresh_s = refresh_s
        self._replica = secrets.token_hex(8)
        self._groups: dict[str, SharedGroup] = {}
        self._is_new_group = asyncio.Event()
        self._backoff = EqualJitterBackoff(cap=10.0, base=0.25)
        self._num_failures = 0

    @classmethod
    def at(cls, url: str, *, flush_interval_s: float, lifetime_s: int) -> Self:
        """Over the Redis at a URL, which need not be there yet. Raises BadParameter for what is no URL of a Redis."""
        address = parse_redis_url(url)
        client = open_client(address)
        return cls(client, Condition(address), flush_interval_s=flush_interval_s, lifetime_s=lifetime_s)

    def view(self, key: str) -> Mapping[str, float]:
        return self._group(key).view

    def add(self, key: str, amounts: Mapping[str, float], *, keep: float = 1.0) -> None:
        """Raises ValueError for amounts that are not finite and for `keep` outside (0, 1]: nobody could undo them."""
        if not (0 < keep <= 1 and all(map(isfinite, amounts.values()))):
            raise ValueError(f"sums take finite amounts and keep in (0, 1], got {dict(amounts)} and {keep}")
        self._group(key).add(amounts, keep)

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Merge in the background until the context ends, then once more, and close the client."""
        sharing = asyncio.create_task(self._keep_sharing())
        try:
            yield
        finally:
            sharing.cancel()
            await asyncio.wait([sharing])
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    while self._has_changes and await self.flush():
                        pass
            await self._disconnect()

    async def flush(self) -> bool:
        """One round: merge every group that has changed, fetch those that are new or old. Returns whether all went."""
        try:
            num_merged, refusal = await self._merge_due()
        except ResponseError as error:  # an answer to the knock
            return await self._fail(Trouble.REFUSED, error)
        except _UNREACHABLE as error:
            return await self._fail(Trouble.UNREACHABLE, error)
        except Exception as error:  # sharing must outlive whatever a reply or the client holds
            return await self._fail(Trouble.BUG, error)
        if refusal is None:
            self._condition.succeeded()
        elif num_merged == 0:
            return await self._fail(Trouble.REFUSED, refusal)
        else:  # the server serves other groups, which need not wait
            self._condition.failed(Trouble.REFUSED, refusal)
        self._num_failures = 0
        return refusal is None

    async def _fail(self, trouble: Trouble, error: Exception) -> Literal[False]:
        self._num_failures += 1
        self._condition.failed(trouble, error)
        await self._disconnect()  # the next round asks anew where the server, or the cluster's nodes, are
        return False

    async def _keep_sharing(self) -> None:
        """Until it is cancelled, however that is noticed.

        The client writes through `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes as the
        write ends; that it was asked for remains known.
        """
        task = asyncio.current_task()
        while task is not None and not task.cancelling():
            await self._pause()
            await self.flush()

    async def _pause(self) -> None:
        """Until the next round: at once for a group that is new, later after failures."""
        if self._num_failures:
            await asyncio.sleep(self._backoff.compute(min(self._num_failures, _MAX_DOUBLINGS)))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._flush_interval_s * random.uniform(0.75, 1.25)):
                await self._is_new_group.wait()

    async def _merge_due(self) -> tuple[int, Exception | None]:
        """Returns how many groups were merged, and why another was refused."""
        if self._num_failures:  # nothing sets out, and could get lost, before somebody answers
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await self._client.ping()
        self._is_new_group.clear()
        now_s = time.monotonic()
        due = [(key, group) for key, group in self._groups.items() if group.is_due(now_s - self._refresh_s)]
        refusals = [refusal for key, group in due if (refusal := await self._merge(key, group)) is not None]
        return len(due) - len(refusals), next(iter(refusals), None)

    async def _merge(self, key: str, group: SharedGroup) -> Exception | None:
        """Returns why it was refused."""
        numbered = group.send(time.monotonic())
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                snapshot = await merge(
                    self._client, key, self._replica, numbered, group.snapshot, lifetime_s=self._lifetime_s
                )
            group.acknowledge(snapshot, time.monotonic())
        except ResponseError as error:
            group.refuse()
            return error
        except ValueError as error:  # the hash holds what no draftpool has written
            return error
        metrics.MERGES.inc()
        metrics.LAST_MERGE.set_to_current_time()
        return None

    async def _disconnect(self) -> None:
        try:
            async with asyncio.timeout(_HANG_UP_S):
                await self._client.aclose()
        except Exception as error:
            log.debug("closing the connections to Redis: %r", error)

    def _group(self, key: str) -> SharedGroup:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = SharedGroup()
            self._is_new_group.set()
        group.was_used = True
        return group

    @property
    def _has_changes(self) -> bool:
        return any(group.has_changes for group in self._groups.values())
