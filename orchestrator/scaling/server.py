"""The scaler's own port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from draftpool.keda import externalscaler_pb2_grpc
from draftpool.rpc import server as rpc_server
from draftpool.rpc.channel import open_channel
from draftpool.rpc.security import ServerSecurity
from draftpool.v1 import demand_pb2_grpc
from orchestrator.discovery import sources_of
from orchestrator.fleet import Fleet
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.loads import PoolLoads
from orchestrator.scaling.peers import Peers
from orchestrator.scaling.servicer import DemandServicer, ExternalScalerServicer
from orchestrator.settings import OrchestratorSettings


@asynccontextmanager
async def scaler_served(
    settings: OrchestratorSettings,
    fleet: Fleet,
    demand: Demand,
    *,
    security: ServerSecurity = ServerSecurity(),  # noqa: B008  (frozen)
    insecure: bool = False,
    dial: Callable[[str], grpc.aio.Channel] = open_channel,
) -> AsyncIterator[str | None]:
    """Serve the external scaler where the settings say so, for as long as the context lasts; gives its address.

    It is apart from the public port because whoever calls it is no client: KEDA has no API key, and what clients want
    is nobody's business but the other orchestrators'.

    Raises:
        BadParameter: the address cannot be bound, or is open to other machines without protection.
    """
    if settings.scaler_listen is None:
        yield None
        return
    peers = Peers(
        sources_of(settings.peers, dns_refresh_s=settings.dns_refresh_s),
        own_id=demand.orchestrator_id,
        dial=dial,
    )
    scaler = ExternalScalerServicer(PoolLoads(fleet, demand, peers))
    services = [
        rpc_server.Service(
            "externalscaler.ExternalScaler",
            lambda server: externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(scaler, server),
        ),
        rpc_server.Service(
            "draftpool.v1.Demand",
            lambda server: demand_pb2_grpc.add_DemandServicer_to_server(DemandServicer(demand), server),
        ),
    ]
    async with (
        peers.kept(),
        rpc_server.served_beside(services, settings.scaler_listen, security, insecure=insecure) as address,
    ):
        yield address
