"""Certificates are replaced while everything runs."""

import asyncio
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from draftpool.rpc.callers import for_services
from draftpool.rpc.channel import open_channel
from draftpool.rpc.rotating_channel import RotatingChannel
from draftpool.rpc.security import ServerSecurity
from draftpool.settings import ServerSettings
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc
from tests.certificates import Authority, Pem, Secret, served_serial
from tests.unit.draftpool.rpc.servers import Echo, describe, echo

OURS = Authority()


@pytest.fixture
def server_secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "server", OURS.issue())


@pytest.fixture
def caller_secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "caller", OURS.issue())


def security_of(secret: Secret) -> ServerSecurity:
    return for_services(secret.settings, ServerSettings())


def channel_of(address: str, secret: Secret) -> RotatingChannel:
    channel = open_channel(address, tls=secret.settings.for_channels())
    assert isinstance(channel, RotatingChannel)
    return channel


def last_serial(servicer: Echo) -> int:
    """Of the certificate that the last call was made with."""
    return x509.load_pem_x509_certificate(servicer.certificates[-1]).serial_number


async def answer(call: grpc.aio.StreamStreamCall) -> object:
    await call.write(drafter_pb2.DraftRequest())
    return await call.read()


async def test_new_connections_get_the_server_s_new_certificate(server_secret: Secret) -> None:
    caller, renewed = OURS.issue(), OURS.issue()
    async with echo(security_of(server_secret)) as (address, _):
        before = await asyncio.to_thread(served_serial, address, caller)
        server_secret.swap(renewed)
        assert await asyncio.to_thread(served_serial, address, caller) == renewed.serial != before


async def test_a_caller_s_new_calls_show_its_new_certificate_and_open_streams_go_on(
    server_secret: Secret, caller_secret: Secret
) -> None:
    renewed = OURS.issue()
    async with echo(security_of(server_secret)) as (address, servicer), channel_of(address, caller_secret) as channel:
        stream = drafter_pb2_grpc.DrafterStub(channel).Draft()
        assert await answer(stream) == drafter_pb2.DraftReply()
        before = last_serial(servicer)
        caller_secret.swap(renewed)
        await describe(channel)
        assert last_serial(servicer) == renewed.serial != before
        assert await answer(stream) == drafter_pb2.DraftReply()
        assert channel.num_channels == 2
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        async with asyncio.timeout(10):
            while channel.num_channels > 1:
                await asyncio.sleep(0.01)
        await describe(channel)


async def test_a_stub_made_before_makes_its_calls_with_the_new_certificate(
    server_secret: Secret, caller_secret: Secret
) -> None:
    async with echo(security_of(server_secret)) as (address, servicer), channel_of(address, caller_secret) as channel:
        stub = drafter_pb2_grpc.DrafterStub(channel)
        for _ in range(3):
            renewed = OURS.issue()
            caller_secret.swap(renewed)
            await stub.Describe(drafter_pb2.DescribeDrafterRequest())
            assert last_serial(servicer) == renewed.serial
        assert channel.num_channels == 1


async def test_a_rotation_that_went_wrong_leaves_the_last_good_certificate_in_use(
    server_secret: Secret, caller_secret: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = OURS.issue(), OURS.issue()
    server_secret.swap(good)
    async with echo(security_of(server_secret)) as (address, _), channel_of(address, caller_secret) as channel:
        server_secret.swap(Pem(other.cert, good.key, OURS.pem))
        caller_secret.swap(Pem(b"garbage", b"garbage", b""))
        await describe(channel)
        assert await asyncio.to_thread(served_serial, address, other) == good.serial
    said = [record.message for record in caplog.records if "last good" in record.message]
    assert len(said) == 2
    assert all("/tls.crt" in message and "garbage" not in message for message in said)


async def test_who_is_no_longer_believed_gets_no_new_connection(server_secret: Secret, caller_secret: Secret) -> None:
    theirs = Authority()
    async with echo(security_of(server_secret)) as (address, _), channel_of(address, caller_secret) as channel:
        await describe(channel)
        server_secret.swap(OURS.issue(believes=theirs.pem))
        async with channel_of(address, caller_secret) as anew:
            with pytest.raises(grpc.aio.AioRpcError):
                await describe(anew)
        await describe(channel)  # its connection was made while it was believed


async def test_an_authority_is_replaced_in_three_steps_with_streams_and_calls_going_on(
    server_secret: Secret, caller_secret: Secret
) -> None:
    """Believe both, show the new one, believe the new one alone."""
    new = Authority()
    both = OURS.pem + new.pem
    steps = [lambda: OURS.issue(believes=both), lambda: new.issue(believes=both), new.issue]
    async with echo(security_of(server_secret)) as (address, servicer), channel_of(address, caller_secret) as channel:
        streams = [drafter_pb2_grpc.DrafterStub(channel).Draft()]
        for step in steps:
            for secret in (server_secret, caller_secret):
                secret.swap(step())
                streams.append(drafter_pb2_grpc.DrafterStub(channel).Draft())
                assert await describe(channel) == "echo"
                assert [await answer(stream) for stream in streams] == [drafter_pb2.DraftReply()] * len(streams)
        issuer = x509.load_pem_x509_certificate(servicer.certificates[-1]).issuer
        assert issuer == x509.load_pem_x509_certificate(new.pem).subject
        for stream in streams:
            stream.cancel()


async def test_closing_a_channel_ends_the_calls_of_all_certificates(
    server_secret: Secret, caller_secret: Secret
) -> None:
    async with echo(security_of(server_secret)) as (address, _):
        channel = channel_of(address, caller_secret)
        streams = []
        for _ in range(2):
            streams.append(drafter_pb2_grpc.DrafterStub(channel).Draft())
            await answer(streams[-1])
            caller_secret.swap(OURS.issue())
        await channel.close()
        assert [stream.done() for stream in streams] == [True, True]


async def test_a_connection_that_is_too_old_is_left_to_its_streams(
    server_secret: Secret, caller_secret: Secret
) -> None:
    """What `max_connection_age_s` does: nothing that runs is cut, and new calls come over new connections."""
    options = [("grpc.max_connection_age_ms", 300)]
    renewed = OURS.issue()
    async with (
        echo(security_of(server_secret), options) as (address, _),
        channel_of(address, caller_secret) as channel,
    ):
        stream = drafter_pb2_grpc.DrafterStub(channel).Draft()
        assert await answer(stream) == drafter_pb2.DraftReply()
        server_secret.swap(renewed)
        for _ in range(30):
            await asyncio.sleep(0.05)
            assert await describe(channel) == "echo"
            assert await answer(stream) == drafter_pb2.DraftReply()
        stream.cancel()
