"""Manners of the RPC layer, over real gRPC on loopback."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from draftpool import errors
from draftpool.errors import DraftpoolError
from draftpool.rpc.channel import open_channel
from draftpool.rpc.server import Service, serve
from draftpool.rpc.status import from_rpc_error
from draftpool.settings import ServerSettings
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc

ERROR_CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DraftpoolError)
]


class ScriptedDrafter(drafter_pb2_grpc.DrafterServicer):
    """Answers every message; raises the error class that a vocabulary fingerprint names."""

    def __init__(self) -> None:
        self.num_open = 0

    async def Draft(self, requests, context):  # noqa: ARG002
        self.num_open += 1
        try:
            async for request in requests:
                reason = request.session.vocabulary_fingerprint
                for error_class in ERROR_CLASSES:
                    if error_class.reason == reason:
                        raise error_class("a precise sentence", retry_after_s=0.25)
                if reason == "long":
                    raise errors.BadParameter("x" * 50_000)
                if reason == "bug":
                    raise KeyError("secret detail")
                yield drafter_pb2.DraftReply()
        finally:
            self.num_open -= 1


@asynccontextmanager
async def serving(drain_grace_s: float = 1.0) -> AsyncIterator[tuple[str, ScriptedDrafter, asyncio.Task[None]]]:
    servicer = ScriptedDrafter()
    service = Service(
        "draftpool.v1.Drafter", lambda server: drafter_pb2_grpc.add_DrafterServicer_to_server(servicer, server)
    )
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve([service], ServerSettings(drain_grace_s=drain_grace_s), on_ready=ready.set_result))
    yield await ready, servicer, task
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
    await task


def session(fingerprint: str) -> drafter_pb2.DraftRequest:
    return drafter_pb2.DraftRequest(session=drafter_pb2.DraftSession(vocabulary_fingerprint=fingerprint))


async def error_of(address: str, fingerprint: str) -> grpc.aio.AioRpcError:
    async with open_channel(address) as channel:
        call = drafter_pb2_grpc.DrafterStub(channel).Draft()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.write(session(fingerprint))
            await call.read()
        return raised.value


async def test_every_error_crosses_the_wire_as_the_same_class() -> None:
    async with serving() as (address, _, _):
        for error_class in ERROR_CLASSES:
            rpc_error = await error_of(address, error_class.reason)
            error = from_rpc_error(rpc_error)
            assert rpc_error.code() is error_class.status
            assert type(error) is error_class
            assert error.message == "a precise sentence"
            assert error.retry_after_s == 0.25


def test_reasons_are_unique() -> None:
    reasons = [error_class.reason for error_class in ERROR_CLASSES]
    assert len(reasons) == len(set(reasons))


async def test_a_bug_is_internal_and_tells_the_request_id_but_no_detail() -> None:
    async with serving() as (address, _, _):
        error = await error_of(address, "bug")
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (error.details() or "")
        assert "under request" in (error.details() or "")


async def test_a_request_id_is_kept_and_sent_back() -> None:
    async with serving() as (address, _, _), open_channel(address) as channel:
        call = drafter_pb2_grpc.DrafterStub(channel).Draft(metadata=(("x-request-id", "abc-123"),))
        await call.write(session(""))
        await call.read()
        assert ("x-request-id", "abc-123") in list(await call.initial_metadata())
        call.cancel()


async def test_a_cancelled_stream_ends_its_handler_at_once() -> None:
    async with serving() as (address, servicer, _), open_channel(address) as channel:
        call = drafter_pb2_grpc.DrafterStub(channel).Draft()
        await call.write(session(""))
        await call.read()
        assert servicer.num_open == 1
        call.cancel()
        async with asyncio.timeout(1):
            while servicer.num_open:
                await asyncio.sleep(0.01)


async def test_draining_lets_running_calls_end_and_refuses_new_ones() -> None:
    async with serving(drain_grace_s=30) as (address, _, task), open_channel(address) as channel:
        async with in_progress(channel) as running:
            os.kill(os.getpid(), signal.SIGTERM)
            assert await refused(address) == ("DRAINING", 1.0)
            await running.write(session(""))
            assert isinstance(await running.read(), drafter_pb2.DraftReply)
            await running.done_writing()
            assert await running.read() is grpc.aio.EOF
        async with asyncio.timeout(5):  # not the whole grace
            await task


async def test_unary_calls_are_refused_too_and_health_says_why() -> None:
    async with serving(drain_grace_s=30) as (address, _, _), open_channel(address) as channel, in_progress(channel):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await refused(address)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await drafter_pb2_grpc.DrafterStub(channel).Describe(drafter_pb2.DescribeDrafterRequest())
        assert type(from_rpc_error(raised.value)) is errors.Draining


@pytest.mark.parametrize("ending", ["grace", "second signal"])
async def test_what_is_left_after_the_grace_or_in_a_hurry_is_told_to_go_on_elsewhere(ending: str) -> None:
    grace_s = 0.1 if ending == "grace" else 30
    async with serving(drain_grace_s=grace_s) as (address, servicer, task), open_channel(address) as channel:
        async with in_progress(channel) as running:
            os.kill(os.getpid(), signal.SIGTERM)
            if ending == "second signal":
                await refused(address)
                os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await running.read()
            assert type(from_rpc_error(raised.value)) is errors.Draining
        async with asyncio.timeout(5):
            await task
        assert servicer.num_open == 0


@asynccontextmanager
async def in_progress(channel: grpc.aio.Channel) -> AsyncIterator[grpc.aio.StreamStreamCall]:
    """A stream that has been answered once."""
    call = drafter_pb2_grpc.DrafterStub(channel).Draft()
    await call.write(session(""))
    await call.read()
    yield call
    call.cancel()


async def refused(address: str) -> tuple[str, float | None]:
    """How new calls are refused, as soon as they are: the signal is on its way."""
    async with open_channel(address) as channel:
        while True:
            call = drafter_pb2_grpc.DrafterStub(channel).Draft()
            try:
                await call.write(session(""))
                await call.read()
            except grpc.aio.AioRpcError as error:
                ours = from_rpc_error(error)
                return ours.reason, ours.retry_after_s
            call.cancel()


async def test_health_and_reflection_answer() -> None:
    async with serving() as (address, _, _), open_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "draftpool.v1.Drafter"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            watch = health.Watch(request)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        assert "draftpool.v1.Drafter" in names
        call.cancel()


async def test_an_address_in_use_is_a_clear_error() -> None:
    async with serving() as (address, _, _):
        with pytest.raises(errors.BadParameter, match="cannot listen on"):
            await serve([], ServerSettings(listen=address))


async def test_a_message_of_any_length_keeps_its_error_intact() -> None:
    async with serving() as (address, _, _):
        error = from_rpc_error(await error_of(address, "long"))
    assert type(error) is errors.BadParameter
    assert error.message.startswith("xxx")


@pytest.mark.parametrize("settings", [{"listen": "127.0.0.1:99999"}, {"metrics_listen": "127.0.0.1:99999"}])
async def test_a_port_that_does_not_exist_is_a_clear_error(settings: dict) -> None:
    with pytest.raises(errors.BadParameter, match="99999"):
        await serve([], ServerSettings(**settings))
