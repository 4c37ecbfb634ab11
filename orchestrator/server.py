"""Wires the orchestrator together and serves it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from draftpool.rpc import callers
from draftpool.rpc import server as rpc_server
from draftpool.rpc.certificate_metrics import watch_expiration
from draftpool.rpc.channel import ChannelTls, open_channel
from draftpool.settings import NO_TLS, ServerSettings, TlsSettings
from draftpool.v1 import bandit_pb2_grpc, generation_pb2_grpc
from orchestrator import metrics
from orchestrator.admission import Admission
from orchestrator.bandit import BanditRegistry, Method
from orchestrator.bandit.policies import Fixed, Policy, Thompson, Ucb1, UcbTuned
from orchestrator.bandit.rewards import measured_reward, paper_reward
from orchestrator.bandit_servicer import BanditServicer
from orchestrator.cold_start import ColdStarts
from orchestrator.discovery import sources_of
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.server import scaler_served
from orchestrator.security import public_security
from orchestrator.servicer import GenerationServicer
from orchestrator.settings import DEFAULT_ARMS, OrchestratorSettings
from orchestrator.sharing.store import open_sums
from orchestrator.situations import Situations

_MAX_REQUEST_BYTES = 4 * 2**20
"""A prompt of some million tokens."""

_PRICINGS = {"measured": measured_reward, "paper": paper_reward}


async def serve(
    settings: OrchestratorSettings,
    server_settings: ServerSettings,
    tls: TlsSettings = NO_TLS,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `draftpool.v1.Generation` until asked to stop.

    Raises:
        BadParameter: the address cannot be bound, or must not be without protection.
    """
    security = public_security(settings, server_settings, tls)
    fleet = _fleet(settings, tls.for_channels())
    metrics.watch_pools(fleet)
    watch_expiration(tls.identity())
    admission = Admission(
        max_running=settings.max_requests,
        max_waiting=settings.max_queued_requests,
        lift_s=settings.priority_lift_s,
    )
    demand = Demand()
    scaler = scaler_served(
        settings,
        fleet,
        demand,
        security=callers.for_services(tls, server_settings),
        insecure=server_settings.insecure,
        dial=partial(open_channel, tls=tls.for_channels(settings.peer_server_name)),
    )
    async with open_sums(settings) as sums, fleet.watched(), scaler:
        bandits = BanditRegistry(DEFAULT_ARMS, sums, _method(settings))
        situations = Situations(fleet, bandits)
        servicer = GenerationServicer(fleet, _cold_starts(settings, fleet, demand), situations, admission, settings)
        services = [
            rpc_server.Service(
                "draftpool.v1.Generation",
                lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server),
            ),
            rpc_server.Service(
                "draftpool.v1.Bandit",
                lambda server: bandit_pb2_grpc.add_BanditServicer_to_server(BanditServicer(bandits), server),
            ),
        ]
        async with situations.recalled():
            await rpc_server.serve(
                services, server_settings, security, max_request_bytes=_MAX_REQUEST_BYTES, on_ready=on_ready
            )


def _fleet(settings: OrchestratorSettings, tls: ChannelTls | None) -> Fleet:
    return Fleet(
        verifiers=sources_of(settings.verifiers, dns_refresh_s=settings.dns_refresh_s),
        drafters=sources_of(settings.drafters, dns_refresh_s=settings.dns_refresh_s),
        refresh_s=settings.refresh_s,
        ejection=EjectionPolicy(settings.ejection_s, settings.max_ejection_s, settings.max_ejected_share),
        dial=partial(open_channel, tls=tls),
    )


def _method(settings: OrchestratorSettings) -> Method:
    policies: dict[str, Policy] = {
        "ucb_tuned": UcbTuned(settings.exploration),
        "ucb1": Ucb1(settings.exploration),
        "thompson": Thompson(settings.exploration, random.Random()),
        "fixed": Fixed(settings.fixed_arm),
    }
    return Method(
        policy=policies[settings.bandit_policy],
        pricing=_PRICINGS[settings.reward],
        yield_half_life=settings.yield_half_life,
        timing_half_life=settings.timing_half_life,
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
