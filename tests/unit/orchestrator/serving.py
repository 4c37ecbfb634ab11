"""The public API over the fake services: real gRPC on both sides, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.v1 import generation_pb2_grpc
from orchestrator.admission import Admission
from orchestrator.bandit import BanditRegistry, measured_cost
from orchestrator.cold_start import ColdStarts
from orchestrator.scaling.demand import Demand
from orchestrator.servicer import GenerationServicer
from orchestrator.settings import DEFAULT_ARMS, OrchestratorSettings
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, fleet_of


@asynccontextmanager
async def orchestrator_of(*services: FakeVerifier | FakeDrafter, **settings: Any) -> AsyncIterator[str]:
    """The address of an orchestrator in front of these services."""
    made = OrchestratorSettings(**settings)
    admission = Admission(
        max_running=made.max_requests, max_waiting=made.max_queued_requests, lift_s=made.priority_lift_s
    )
    async with fleet_of(*services) as fleet:
        bandits = BanditRegistry(DEFAULT_ARMS, measured_cost, made.exploration)
        cold_starts = ColdStarts(
            fleet,
            Demand(),
            cold_targets=made.cold_targets,
            cold_start_s=made.cold_start_s,
            recovery_s=made.recovery_s,
            max_waiting=made.max_queued_requests,
        )
        server = grpc.aio.server(interceptors=[MannersInterceptor()])
        generation_pb2_grpc.add_GenerationServicer_to_server(
            GenerationServicer(fleet, cold_starts, bandits, admission, made), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
