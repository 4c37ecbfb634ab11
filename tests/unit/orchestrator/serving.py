"""The public API over the fake services: real gRPC on both sides, in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from draftpool.rpc.channel import open_channel
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.security import ServerSecurity, add_port
from draftpool.v1 import bandit_pb2_grpc, generation_pb2_grpc
from orchestrator.admission import Admission
from orchestrator.bandit import BanditRegistry, LocalSums, Method
from orchestrator.bandit_servicer import BanditServicer
from orchestrator.cold_start import ColdStarts
from orchestrator.fleet import Fleet
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.server import scaler_served
from orchestrator.servicer import GenerationServicer
from orchestrator.settings import DEFAULT_ARMS, OrchestratorSettings
from orchestrator.situations import Situations
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, fleet_of


@asynccontextmanager
async def orchestrator_of(
    *services: FakeVerifier | FakeDrafter,
    security: ServerSecurity = ServerSecurity(),  # noqa: B008  (frozen)
    dial: Callable[[str], grpc.aio.Channel] = open_channel,
    **settings: Any,
) -> AsyncIterator[str]:
    """The address of an orchestrator in front of these services."""
    async with fleet_of(*services, dial=dial) as fleet, serving(fleet, security=security, **settings) as served:
        yield served.address


@dataclass
class Served:
    """An orchestrator.

    Attributes:
        scaler: the address of its external scaler, where it has one.
    """

    address: str
    scaler: str | None


@asynccontextmanager
async def serving(
    fleet: Fleet,
    security: ServerSecurity = ServerSecurity(),  # noqa: B008  (frozen)
    **settings: Any,
) -> AsyncIterator[Served]:
    """An orchestrator in front of a fleet."""
    made, demand = OrchestratorSettings(**settings), Demand()
    admission = Admission(
        max_running=made.max_requests, max_waiting=made.max_queued_requests, lift_s=made.priority_lift_s
    )
    cold_starts = ColdStarts(
        fleet,
        demand,
        cold_targets=made.cold_targets,
        cold_start_s=made.cold_start_s,
        recovery_s=made.recovery_s,
        max_waiting=made.max_queued_requests,
    )
    bandits = BanditRegistry(DEFAULT_ARMS, LocalSums(), Method())
    server = grpc.aio.server(interceptors=[MannersInterceptor(), *security.interceptors])
    servicer = GenerationServicer(fleet, cold_starts, Situations(fleet, bandits), admission, made)
    generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server)
    bandit_pb2_grpc.add_BanditServicer_to_server(BanditServicer(bandits), server)
    port = add_port(server, "127.0.0.1:0", security)
    await server.start()
    try:
        async with scaler_served(made, fleet, demand) as scaler:
            yield Served(f"127.0.0.1:{port}", scaler)
    finally:
        await server.stop(None)
