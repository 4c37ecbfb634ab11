"""Orchestrators that ask each other over mutual TLS, by address: the certificate's name is one that they are told."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from draftpool.keda import externalscaler_pb2, externalscaler_pb2_grpc
from draftpool.rpc.callers import for_services
from draftpool.rpc.channel import open_channel
from draftpool.settings import ServerSettings, TlsSettings
from orchestrator.scaling.demand import Demand
from orchestrator.scaling.server import scaler_served
from orchestrator.server import serve
from orchestrator.settings import OrchestratorSettings
from tests.certificates import Authority, Secret
from tests.unit.orchestrator.fake_services import fleet_of

FREE = "127.0.0.1:0"
NAME = "orchestrator.draftpool"


@asynccontextmanager
async def _another_orchestrator(tls: TlsSettings) -> AsyncIterator[tuple[str, Demand]]:
    """The address of its scaler, and what its clients want."""
    demand = Demand()
    security = for_services(tls, ServerSettings())
    async with (
        fleet_of() as fleet,
        scaler_served(OrchestratorSettings(scaler_listen=FREE), fleet, demand, security=security) as address,
    ):
        assert address is not None
        yield address, demand


@asynccontextmanager
async def _serving(settings: OrchestratorSettings, tls: TlsSettings) -> AsyncIterator[None]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(settings, ServerSettings(drain_grace_s=0), tls, on_ready=ready.set_result))
    try:
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def _is_wanted(scaler: str, tls: TlsSettings) -> bool:
    async with open_channel(scaler, tls=tls.for_channels(NAME)) as channel:
        stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        reference = externalscaler_pb2.ScaledObjectRef(scaler_metadata={"pool": "drafter"})
        return (await stub.IsActive(reference)).result


@pytest.mark.parametrize(("peer_server_name", "is_heard"), [(NAME, True), (None, False)])
async def test_a_peer_is_heard_whose_certificate_carries_the_name_of_peers(
    tmp_path: Path, peer_server_name: str | None, is_heard: bool
) -> None:
    """Model services are known by another name, which orchestrators' certificates need not carry."""
    tls = Secret(tmp_path / "tls", Authority().issue(NAME)).settings
    async with _another_orchestrator(tls) as (own, _):
        pass  # its port is free again
    async with _another_orchestrator(tls) as (address, demand):
        settings = OrchestratorSettings(scaler_listen=own, peers=(address,), peer_server_name=peer_server_name)
        with demand.counted("a-target"):
            async with _serving(settings, tls.model_copy(update={"tls_server_name": "models.draftpool"})):
                heard = await _is_wanted(own, tls)
                while is_heard and not heard:  # a peer has half a second to answer, which a busy machine may need
                    heard = await _is_wanted(own, tls)
                assert heard is is_heard


async def test_a_stranger_hears_nothing(tmp_path: Path) -> None:
    ours, theirs = (Secret(tmp_path / name, Authority().issue(NAME)).settings for name in ("ours", "theirs"))
    async with _another_orchestrator(ours) as (address, _):
        with pytest.raises(grpc.aio.AioRpcError):
            await _is_wanted(address, theirs)
