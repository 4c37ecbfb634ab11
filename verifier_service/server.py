"""Start a verifier replica and serve it until told to stop."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace

from draftpool.rpc import callers, server
from draftpool.settings import NO_TLS, ServerSettings, TlsSettings
from draftpool.v1 import verifier_pb2_grpc
from verifier_service import parallel
from verifier_service.parallel import LeadingRunner
from verifier_service.placement import Placement
from verifier_service.readiness import load, make_ready
from verifier_service.replica import VerifierReplica
from verifier_service.servicer import VerifierServicer
from verifier_service.settings import VerifierSettings

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 16 * 2**20
"""Token ids of some million tokens."""


async def serve(
    settings: VerifierSettings,
    server_settings: ServerSettings,
    tls: TlsSettings = NO_TLS,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Load the target, then serve until SIGTERM or SIGINT. Of several ranks, the first one serves.

    Args:
        on_ready: called with the bound address once requests are answered.

    Raises:
        ModelNotServable: the model cannot be served.
        BadParameter: settings that do not fit together, or an address that cannot be bound, or must not be without
            protection.
        GroupLost: a rank is gone.
    """
    security = callers.for_services(tls, server_settings)

    async def serve_replica(replica: VerifierReplica) -> None:
        await server.serve(
            [verifier_service(replica)],
            server_settings,
            security,
            max_request_bytes=_MAX_REQUEST_BYTES,
            on_ready=on_ready,
        )

    if parallel.num_ranks() > 1:
        await _serve_in_ranks(settings, serve_replica)
    else:
        with closing(VerifierReplica(settings)) as replica:
            await serve_replica(replica)


async def _serve_in_ranks(
    settings: VerifierSettings, serve_replica: Callable[[VerifierReplica], Awaitable[None]]
) -> None:
    placement = Placement(settings.device, settings.device_map, parallel.num_ranks())
    with parallel.joined(placement.torch_device()) as group:
        target = load(settings, num_ranks=group.num_ranks)
        group.meet()
        ready = make_ready(target, settings)
        log.info("rank %d of %d %s", group.rank, group.num_ranks, "leads" if group.is_leader else "follows")
        if not group.is_leader:
            _leave_signals_to_the_leader()
            parallel.follow(ready.runner, group)
            return
        with closing(LeadingRunner(ready.runner, group, on_lost=_stop_serving)) as leader:
            with closing(VerifierReplica(settings, replace(ready, runner=leader))) as replica:
                await serve_replica(replica)
            if leader.loss is not None:
                raise leader.loss


def _leave_signals_to_the_leader() -> None:
    """All ranks are sent the same signals, and the leader may go on for as long as its requests do."""
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, signal.SIG_IGN)


def _stop_serving() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def verifier_service(replica: VerifierReplica) -> server.Service:
    """The replica as a service of a gRPC server."""
    return server.Service(
        "draftpool.v1.Verifier",
        lambda grpc_server: verifier_pb2_grpc.add_VerifierServicer_to_server(VerifierServicer(replica), grpc_server),
    )
