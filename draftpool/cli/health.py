"""`draftpool health`: whether a service serves, as an exit code, for probes.

Probes run every few seconds beside the service, so this imports little: gRPC, and nothing of this project but the
channel. The two messages of grpc.health.v1 are written out for the same reason.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from draftpool.rpc.channel import ChannelTls

_CHECK = "/grpc.health.v1.Health/Check"
_ANYTHING = b""
"""HealthCheckRequest without a service: the server as a whole."""
_SERVING = b"\x08\x01"
"""HealthCheckResponse with status SERVING."""


def health(
    address: Annotated[str, typer.Option("--address", "-a", help="Where the service listens, host:port.")],
    timeout_s: Annotated[float, typer.Option(min=0.001, help="For an answer.")] = 3.0,
    tls_cert_file: Annotated[
        Path | None, typer.Option(envvar="DRAFTPOOL_TLS_CERT_FILE", help="Certificate to show; PEM, as all of these.")
    ] = None,
    tls_key_file: Annotated[
        Path | None, typer.Option(envvar="DRAFTPOOL_TLS_KEY_FILE", help="Its private key, not encrypted.")
    ] = None,
    tls_ca_file: Annotated[
        Path | None, typer.Option(envvar="DRAFTPOOL_TLS_CA_FILE", help="Authorities to believe.")
    ] = None,
    # The rest is not from the environment of the service, which says there how it calls others.
    tls: Annotated[bool, typer.Option("--tls", help="TLS without such a file: believe public authorities.")] = False,
    server_name: Annotated[
        str | None, typer.Option(help="Name in the service's certificate, where it is not the host of the address.")
    ] = None,
) -> None:
    """Ask a service whether it serves. Exit code 0: it does; 1: it does not, or does not answer."""
    from draftpool.rpc.channel import ChannelTls
    from draftpool.rpc.identity_files import IdentityPaths

    paths = IdentityPaths(tls_cert_file, tls_key_file, tls_ca_file)
    is_secure = tls or paths != IdentityPaths()
    channel_tls = ChannelTls(paths.watched(), server_name) if is_secure else None
    problem = asyncio.run(_problem(address, timeout_s, channel_tls))
    if problem:
        typer.echo(f"{address}: {problem}", err=True)
        raise typer.Exit(1)


async def _problem(address: str, timeout_s: float, tls: ChannelTls | None) -> str:
    """Why the service cannot be said to serve; empty where it can."""
    import grpc

    from draftpool.rpc.channel import open_channel
    from draftpool.rpc.unreachable import why_unreachable

    async with open_channel(address, tls=tls) as channel:
        check: Any = channel.unary_unary(_CHECK)
        try:
            reply: bytes = await check(_ANYTHING, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer within {timeout_s:g} s"
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                return f"{error.code().name}, {error.details()}"
            return why_unreachable(error.details() or "") or "nothing answers"
    return "" if reply == _SERVING else "it does not serve"
