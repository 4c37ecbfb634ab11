"""Bootstrap of a service: bind, announce, serve until asked to stop, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from draftpool.errors import BadParameter
from draftpool.metrics import metrics_endpoint
from draftpool.rpc.certificate_metrics import watch_expiration
from draftpool.rpc.channel import MAX_MESSAGE_BYTES
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.open_calls import OpenCalls
from draftpool.rpc.security import ServerSecurity, add_port, lacking_protection, require_protection
from draftpool.settings import ServerSettings

log = logging.getLogger(__name__)

_MAX_PORT = 65535

_FAREWELL_S = 0.2
"""For the last statuses to go out; whoever watches the health of this server is on the line until then."""

_HANDSHAKE_S = 10
"""For a connection to become one; gRPC would hold a silent one for two minutes."""

_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_S * 1000),
    # Without this, two servers could share a port and each get half of the calls.
    ("grpc.so_reuseport", 0),
    # Callers ping every 10 seconds; by default a server hangs up on who does so on a quiet call.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A caller that vanished without a word is noticed within seconds, and its sessions are freed; see `channel.py`.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


_NO_SECURITY = ServerSecurity()


@dataclass(frozen=True)
class Service:
    """What a server serves.

    Attributes:
        full_name: as in the proto, for health and reflection: `draftpool.v1.Drafter`.
        register: adds the servicer to a server.
    """

    full_name: str
    register: Callable[[grpc.aio.Server], None]


async def serve(
    services: Sequence[Service],
    settings: ServerSettings,
    security: ServerSecurity = _NO_SECURITY,
    *,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain, and return as soon as no call is in progress.

    While it drains, health says NOT_SERVING, new calls are refused with UNAVAILABLE DRAINING, and those in progress go
    on within the grace; what is left then ends with the same status. A second signal ends the grace.

    Args:
        max_request_bytes: the largest message that the services need, where the settings do not say otherwise.
        on_ready: called with the bound address once requests are answered.

    Raises:
        BadParameter: the address cannot be bound, or is open to other machines without protection.
    """
    require_protection(settings.listen, security, insecure=settings.insecure)
    if lacks := lacking_protection(settings.listen, security):
        log.warning("%s can be reached from other machines and has, as told, %s", settings.listen, lacks)
    calls = OpenCalls()
    server = grpc.aio.server(
        interceptors=[MannersInterceptor(calls), *security.interceptors],
        options=[*_OPTIONS, *_limits(settings, max_request_bytes)],
    )
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [service.full_name for service in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    for service in services:
        service.register(server)
    address = await _bind(server, settings.listen, security)
    signals = _Signals()
    with metrics_endpoint(settings.metrics_listen):
        await server.start()
        for name in ["", *names]:
            await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        _announce(address, settings, on_ready)
        await signals.first.wait()
        log.info("draining, at most %g s", settings.drain_grace_s)
        await health_servicer.enter_graceful_shutdown()
        await calls.drain(settings.drain_grace_s, signals.second)
        await server.stop(_FAREWELL_S)


def _limits(settings: ServerSettings, max_request_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes or max_request_bytes),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
    ]


@asynccontextmanager
async def served_beside(
    services: Sequence[Service], listen: str, security: ServerSecurity = _NO_SECURITY, *, insecure: bool = False
) -> AsyncIterator[str]:
    """Serve on a port of its own beside that of `serve`, for as long as the context lasts; gives the bound address.

    Calls are ended with the context; nothing drains.

    Raises:
        BadParameter: the address cannot be bound, or is open to other machines without protection.
    """
    require_protection(listen, security, insecure=insecure)
    server = grpc.aio.server(interceptors=[MannersInterceptor(), *security.interceptors], options=_OPTIONS)
    for service in services:
        service.register(server)
    address = await _bind(server, listen, security)
    await server.start()
    log.info("%s on %s", ", ".join(service.full_name for service in services), address)
    try:
        yield address
    finally:
        await server.stop(_FAREWELL_S)


async def _bind(server: grpc.aio.Server, listen: str, security: ServerSecurity) -> str:
    requested_port = listen.rpartition(":")[2]
    try:
        if requested_port.isdigit() and int(requested_port) > _MAX_PORT:  # gRPC would wrap it around
            raise RuntimeError(f"ports end at {_MAX_PORT}")
        port = add_port(server, listen, security)
    except RuntimeError as error:
        await server.stop(None)
        raise BadParameter(f"cannot listen on {listen}: {error}") from None
    watch_expiration(security.identity)
    return f"{listen.rpartition(':')[0]}:{port}"


def _announce(address: str, settings: ServerSettings, on_ready: Callable[[str], None] | None) -> None:
    log.info("ready on %s", address)
    if settings.address_file is not None:
        partial = settings.address_file.with_suffix(".partial")
        partial.write_text(address)
        partial.replace(settings.address_file)
    if on_ready is not None:
        on_ready(address)


class _Signals:
    """SIGTERM and SIGINT, from now on: the first asks to stop, the second to hurry."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, self._on_signal)

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
