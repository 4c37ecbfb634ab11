"""The other orchestrators, and what their clients want of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import grpc

from draftpool.rpc.channel import open_channel
from draftpool.v1 import demand_pb2, demand_pb2_grpc
from orchestrator.discovery import Discovery

log = logging.getLogger(__name__)

_TIMEOUT_S = 0.5


class Peers:
    """Asks every address that its sources tell. One that does not answer counts as having no clients."""

    def __init__(
        self,
        sources: Sequence[Discovery],
        *,
        own_id: str,
        dial: Callable[[str], grpc.aio.Channel] = open_channel,
    ) -> None:
        self._sources = sources
        self._own_id = own_id
        self._dial = dial
        self._told: dict[int, frozenset[str]] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Follow the sources for as long as the context lasts; all channels are closed at its end."""
        tasks = [asyncio.create_task(self._follow(index, source)) for index, source in enumerate(self._sources)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def demands(self) -> list[Mapping[str, int]]:
        """Requests by target, of each other orchestrator that answers."""
        asked = [(address, self._call(channel)) for address, channel in self._channels.items()]
        replies = await asyncio.gather(*(_answer(address, call) for address, call in asked))
        others = {reply.orchestrator_id: reply.num_requests for reply in replies if reply is not None}
        others.pop(self._own_id, None)
        return list(others.values())

    @staticmethod
    def _call(channel: grpc.aio.Channel) -> Awaitable[demand_pb2.ReportDemandReply]:
        """Begun at once: a moment later the channel may be closing, which begun calls outlive."""
        call: Awaitable[demand_pb2.ReportDemandReply] = demand_pb2_grpc.DemandStub(channel).Report(
            demand_pb2.ReportDemandRequest(), timeout=_TIMEOUT_S
        )
        return call

    async def _follow(self, index: int, source: Discovery) -> None:
        try:
            async for addresses in source.watch():
                self._told[index] = addresses
                await self._reconcile(frozenset().union(*self._told.values()))
        except Exception:
            log.exception("a bug while watching %s; the orchestrators known so far stay", source)

    async def _reconcile(self, addresses: frozenset[str]) -> None:
        for address in addresses - self._channels.keys():
            self._channels[address] = self._dial(address)
        for address in self._channels.keys() - addresses:
            await self._channels.pop(address).close(2 * _TIMEOUT_S)


async def _answer(address: str, call: Awaitable[demand_pb2.ReportDemandReply]) -> demand_pb2.ReportDemandReply | None:
    """None from one that does not answer: it restarts, or has gone, and then its clients are at another one."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        log.debug("orchestrator %s does not tell its demand: %s", address, error.details())
        return None
