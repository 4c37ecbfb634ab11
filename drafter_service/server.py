"""Start a drafter replica and serve it until told to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from drafter_service.replica import DrafterReplica
from drafter_service.servicer import DrafterServicer
from drafter_service.settings import DrafterSettings
from draftpool.rpc import callers, server
from draftpool.settings import NO_TLS, ServerSettings, TlsSettings
from draftpool.v1 import drafter_pb2_grpc


async def serve(
    settings: DrafterSettings,
    server_settings: ServerSettings,
    tls: TlsSettings = NO_TLS,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Load the model, then serve until SIGTERM or SIGINT.

    Args:
        on_ready: called with the bound address once requests are answered.

    Raises:
        ModelNotServable: the checkpoint cannot be run.
        BadParameter: the address cannot be bound, or must not be without protection.
    """
    security = callers.for_services(tls, server_settings)
    with closing(DrafterReplica(settings)) as replica:
        await server.serve([drafter_service(replica)], server_settings, security, on_ready=on_ready)


def drafter_service(replica: DrafterReplica) -> server.Service:
    return server.Service(
        "draftpool.v1.Drafter",
        lambda grpc_server: drafter_pb2_grpc.add_DrafterServicer_to_server(DrafterServicer(replica), grpc_server),
    )
