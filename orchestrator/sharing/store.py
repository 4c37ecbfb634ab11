"""Which store this process uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from draftpool.errors import BadParameter
from orchestrator.bandit.sums import LocalSums, Sums
from orchestrator.settings import OrchestratorSettings


@asynccontextmanager
async def open_sums(settings: OrchestratorSettings) -> AsyncIterator[Sums]:
    """The sums that all requests of this process learn into: shared through Redis where there is a URL.

    Raises:
        BadParameter: there is one, and redis-py is not installed.
    """
    if settings.redis_url is None:
        yield LocalSums()
        return
    try:
        from orchestrator.sharing.redis_sums import RedisSums  # here, for only an extra installs redis-py
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise BadParameter("sharing through Redis needs redis-py; pip install 'draftpool[orchestrator]'") from None
    sums = RedisSums.at(
        settings.redis_url.get_secret_value(),
        flush_interval_s=settings.redis_flush_interval_s,
        lifetime_s=round(settings.redis_lifetime_days * 86_400),
    )
    async with sums.shared():
        yield sums
