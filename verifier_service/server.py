"""Start a verifier replica and serve it until told to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from draftpool.rpc import server
from draftpool.settings import ServerSettings
from draftpool.v1 import verifier_pb2_grpc
from verifier_service.replica import VerifierReplica
from verifier_service.servicer import VerifierServicer
from verifier_service.settings import VerifierSettings


async def serve(
    settings: VerifierSettings, server_settings: ServerSettings, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Load the target, then serve until SIGTERM or SIGINT.

    Args:
        on_ready: called with the bound address once requests are answered.

    Raises:
        ModelNotServable: the model cannot be served.
        BadParameter: settings that do not fit together, or an address that cannot be bound.
    """
    with closing(VerifierReplica(settings)) as replica:
        await server.serve([verifier_service(replica)], server_settings, on_ready=on_ready)


def verifier_service(replica: VerifierReplica) -> server.Service:
    """The replica as a service of a gRPC server."""
    return server.Service(
        "draftpool.v1.Verifier",
        lambda grpc_server: verifier_pb2_grpc.add_VerifierServicer_to_server(VerifierServicer(replica), grpc_server),
    )
