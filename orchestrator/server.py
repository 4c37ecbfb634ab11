"""Wires the orchestrator together and serves it."""

from __future__ import annotations

from collections.abc import Callable

from draftpool.rpc import server as rpc_server
from draftpool.settings import ServerSettings
from draftpool.v1 import generation_pb2_grpc
from orchestrator import metrics
from orchestrator.admission import Admission
from orchestrator.bandit import BanditRegistry, measured_cost, paper_cost
from orchestrator.cold_start import ColdStarts
from orchestrator.discovery import sources_of
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.server import scaler_served
from orchestrator.servicer import GenerationServicer
from orchestrator.settings import DEFAULT_ARMS, OrchestratorSettings
from orchestrator.sharing.store import open_sums

_PRICINGS = {"measured": measured_cost, "paper": paper_cost}


async def serve(
    settings: OrchestratorSettings,
    server_settings: ServerSettings,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `draftpool.v1.Generation` until asked to stop. Raises BadParameter when the address cannot be bound."""
    fleet = _fleet(settings)
    metrics.watch_pools(fleet)
    admission = Admission(
        max_running=settings.max_requests,
        max_waiting=settings.max_queued_requests,
        lift_s=settings.priority_lift_s,
    )
    bandits = BanditRegistry(DEFAULT_ARMS, _PRICINGS[settings.reward], settings.exploration)
    demand = Demand()
    servicer = GenerationServicer(fleet, _cold_starts(settings, fleet, demand), bandits, admission, settings)
    service = rpc_server.Service(
        "draftpool.v1.Generation",
        lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server),
    )
    async with open_sums(settings), fleet.watched(), scaler_served(settings, fleet, demand):
        await rpc_server.serve([service], server_settings, on_ready=on_ready)


def _fleet(settings: OrchestratorSettings) -> Fleet:
    return Fleet(
        verifiers=sources_of(settings.verifiers, dns_refresh_s=settings.dns_refresh_s),
        drafters=sources_of(settings.drafters, dns_refresh_s=settings.dns_refresh_s),
        refresh_s=settings.refresh_s,
        ejection=EjectionPolicy(settings.ejection_s, settings.max_ejection_s, settings.max_ejected_share),
    )


def _cold_starts(settings: OrchestratorSettings, fleet: Fleet, demand: Demand) -> ColdStarts:
    return ColdStarts(
        fleet,
        demand,
        cold_targets=settings.cold_targets,
        cold_start_s=settings.cold_start_s,
        recovery_s=settings.recovery_s,
        max_waiting=settings.max_queued_requests,
    )
