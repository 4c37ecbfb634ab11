"""A small server over real gRPC, as secure as a test wants it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from draftpool.rpc.callers import caller_names
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.security import ServerSecurity, add_port
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc


class Echo(drafter_pb2_grpc.DrafterServicer):
    """Answers every message with nothing; tells the names of the last caller.

    Attributes:
        names: of the last caller's certificate.
        certificates: of all callers so far, PEM.
    """

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self.certificates: list[bytes] = []

    async def Draft(self, requests, context):
        self._note(context)
        async for _ in requests:
            yield drafter_pb2.DraftReply()

    async def Describe(self, request, context):  # noqa: ARG002
        self._note(context)
        return drafter_pb2.DescribeDrafterReply(model="echo")

    def _note(self, context) -> None:
        self.names = caller_names(context)
        self.certificates += context.auth_context().get("x509_pem_cert", [])


@asynccontextmanager
async def echo(security: ServerSecurity, options: Sequence[tuple[str, int]] = ()) -> AsyncIterator[tuple[str, Echo]]:
    """Its address, and the servicer."""
    servicer = Echo()
    server = grpc.aio.server(interceptors=[MannersInterceptor(), *security.interceptors], options=options)
    drafter_pb2_grpc.add_DrafterServicer_to_server(servicer, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    port = add_port(server, "127.0.0.1:0", security)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(None)


async def describe(channel: grpc.aio.Channel, timeout_s: float = 60) -> str:
    reply = await drafter_pb2_grpc.DrafterStub(channel).Describe(
        drafter_pb2.DescribeDrafterRequest(), timeout=timeout_s
    )
    return reply.model
