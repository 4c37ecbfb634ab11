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
from draftpool.rpc.channel import MAX_MESSAGE_BYTES
from draftpool.rpc.interceptors import MannersInterceptor
from draftpool.rpc.open_calls import OpenCalls
from draftpool.settings import ServerSettings

log = logging.getLogger(__name__)

_MAX_PORT = 65535

_FAREWELL_S = 0.2
"""For the last statuses to go out; whoever watches the health of this server is on the line until then."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
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
    services: Sequence[Service], settings: ServerSettings, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain, and return as soon as no call is in progress.

    While it drains, health says NOT_SERVING, new calls are refused with UNAVAILABLE DRAINING, and those in progress go
    on within the grace; what is left then ends with the same status. A second signal ends the grace.

    Args:
        on_ready: called with the bound address once requests are answered.

    Raises:
        BadParameter: the address cannot be bound.
    """
    calls = OpenCalls()
    server = grpc.aio.server(interceptors=[MannersInterceptor(calls)], options=_OPTIONS)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [service.full_name for service in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    for service in services:
        service.register(server)
    address = await _bind(server, settings.listen)
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


@asynccontextmanager
async def served_beside(services: Sequence[Service], listen: str) -> AsyncIterator[str]:
    """Serve on a port of its own beside that of `serve`, for as long as the context lasts; gives the bound address.

    Calls are ended with the context; nothing drains.

    Raises:
        BadParameter: the address cannot be bound.
    """
    server = grpc.aio.server(interceptors=[MannersInterceptor()], options=_OPTIONS)
    for service in services:
        service.register(server)
    address = await _bind(server, listen)
    await server.start()
    log.info("%s on %s", ", ".join(service.full_name for service in services), address)
    try:
        yield address
    finally:
        await server.stop(_FAREWELL_S)


async def _bind(server: grpc.aio.Server, listen: str) -> str:
    requested_port = listen.rpartition(":")[2]
    try:
        if requested_port.isdigit() and int(requested_port) > _MAX_PORT:  # gRPC would wrap it around
            raise RuntimeError(f"ports end at {_MAX_PORT}")
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        await server.stop(None)
        raise BadParameter(f"cannot listen on {listen}: {error}") from None
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
