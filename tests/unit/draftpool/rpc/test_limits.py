"""How much a server takes: sizes, connections, calls."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from draftpool.errors import InvalidRequest
from draftpool.rpc.channel import open_channel
from draftpool.rpc.server import Service, serve
from draftpool.rpc.status import from_rpc_error
from draftpool.settings import ServerSettings
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc
from tests.unit.draftpool.rpc.servers import Echo, describe

OWN_SUBCHANNELS = (("grpc.use_local_subchannel_pool", 1),)
"""Channels to one address would else share a connection."""


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[str]:
    service = Service(
        "draftpool.v1.Drafter", lambda server: drafter_pb2_grpc.add_DrafterServicer_to_server(Echo(), server)
    )
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    limits = {"max_request_bytes": settings.pop("default_bytes")} if "default_bytes" in settings else {}
    serving = serve([service], ServerSettings(drain_grace_s=0, **settings), on_ready=ready.set_result, **limits)
    task = asyncio.create_task(serving)
    try:
        yield await ready
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def send(address: str, num_bytes: int) -> None:
    async with open_channel(address) as channel:
        call = drafter_pb2_grpc.DrafterStub(channel).Draft()
        try:
            await call.write(
                drafter_pb2.DraftRequest(session=drafter_pb2.DraftSession(vocabulary_fingerprint="x" * num_bytes))
            )
            await call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()


@pytest.mark.parametrize(
    "limit",
    [{"default_bytes": 10_000}, {"max_request_bytes": 10_000}, {"default_bytes": 5, "max_request_bytes": 10_000}],
)
async def test_messages_past_the_limit_are_refused_and_the_setting_goes_before_the_default(limit: dict) -> None:
    async with served(**limit) as address:
        await send(address, 9_000)
        with pytest.raises(InvalidRequest, match="larger than max"):
            await send(address, 11_000)


async def test_connections_past_the_limit_are_refused_until_one_ends() -> None:
    async with served(max_connections=2) as address, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(address, OWN_SUBCHANNELS)) for _ in range(2)]
        for channel in channels:
            assert await describe(channel) == "echo"
        async with open_channel(address, OWN_SUBCHANNELS) as third:
            with pytest.raises(grpc.aio.AioRpcError):
                await describe(third, timeout_s=1)
            await channels[0].close()
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await describe(third) == "echo"
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.1)


async def test_calls_past_a_connection_s_limit_wait_in_the_caller() -> None:
    async with served(max_streams_per_connection=1) as address, open_channel(address) as channel:
        stream = drafter_pb2_grpc.DrafterStub(channel).Draft()
        await stream.write(drafter_pb2.DraftRequest())
        await stream.read()
        waiting = asyncio.create_task(describe(channel))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        stream.cancel()
        assert await waiting == "echo"


async def test_a_server_that_is_told_to_be_open_is_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with served(listen="0.0.0.0:0", insecure=True) as address, open_channel(address) as channel:
        assert await describe(channel) == "echo"
    assert "0.0.0.0:0 can be reached from other machines and has, as told, no TLS" in caplog.text
