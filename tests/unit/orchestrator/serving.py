"""The public API over the fake services: real gRPC on both sides, in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from draftpool.rpc.channel import open_channel
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.security import ServerSecurity, add_port
from draftpool.v1 import generation_pb2_grpc
from orchestrator.admission import Admission
from orchestrator.bandit import BanditRegistry, LocalSums, Method
from orchestrator.servicer import GenerationServicer
from orchestrator.settings import DEFAULT_ARMS, OrchestratorSettings
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, fleet_of


@asynccontextmanager
async def orchestrator_of(
    *services: FakeVerifier | FakeDrafter,
    security: ServerSecurity = ServerSecurity(),  # noqa: B008  (frozen)
    dial: Callable[[str], grpc.aio.Channel] = open_channel,
    **settings: Any,
) -> AsyncIterator[str]:
    """The address of an orchestrator in front of these services."""
    made = OrchestratorSettings(**settings)
    admission = Admission(
        max_running=made.max_requests, max_waiting=made.max_queued_requests, lift_s=made.priority_lift_s
    )
    async with fleet_of(*services, dial=dial) as fleet:
        bandits = BanditRegistry(DEFAULT_ARMS, LocalSums(), Method())
        server = grpc.aio.server(interceptors=[MannersInterceptor(), *security.interceptors])
        generation_pb2_grpc.add_GenerationServicer_to_server(
            GenerationServicer(fleet, bandits, admission, made), server
        )
        port = add_port(server, "127.0.0.1:0", security)
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
