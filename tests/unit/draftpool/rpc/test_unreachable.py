"""What is said of servers that cannot be reached, by real gRPC against servers that misbehave."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from draftpool.client import Client
from draftpool.errors import DeadlineExceeded, NoSecureConnection, NothingAnswers
from draftpool.rpc.unreachable import why_unreachable
from draftpool.settings import NO_TLS, TlsSettings
from tests.certificates import Authority

Manners = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ALERT = bytes.fromhex("15030100020246")
"""TLS's word for a protocol version that it does not speak."""


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close_having_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def reset_having_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    await reset(reader, writer)


async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(ALERT)
    await writer.drain()
    writer.close()


async def speak_http_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@asynccontextmanager
async def server_of(manners: Manners) -> AsyncIterator[str]:
    async with await asyncio.start_server(manners, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def believing(tmp_path: Path) -> TlsSettings:
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    return TlsSettings(tls_ca_file=tmp_path / "ca.crt")


@pytest.mark.parametrize("manners", [close, reset, close_having_read, reset_having_read, alert])
async def test_however_a_server_hangs_up_it_is_said_so(manners: Manners) -> None:
    async with server_of(manners) as address, Client(address, tls=NO_TLS) as client:
        with pytest.raises(NoSecureConnection, match="it hangs up at once; it may want TLS"):
            await client.list_models(timeout_s=60)


@pytest.mark.parametrize("manners", [close, reset, close_having_read, reset_having_read])
async def test_a_server_that_hangs_up_amid_a_handshake_may_want_another_certificate(
    manners: Manners, believing: TlsSettings
) -> None:
    async with server_of(manners) as address, Client(address, tls=believing) as client:
        with pytest.raises(NoSecureConnection, match="another certificate than this one"):
            await client.list_models(timeout_s=60)


async def test_what_tls_does_not_like_is_named(believing: TlsSettings) -> None:
    async with server_of(alert) as address, Client(address, tls=believing) as client:
        with pytest.raises(NoSecureConnection, match=r"TLS fails with TLSV1_ALERT_PROTOCOL_VERSION$"):
            await client.list_models(timeout_s=60)


async def test_a_web_server_is_taken_for_one(believing: TlsSettings) -> None:
    async with server_of(speak_http_1) as address:
        async with Client(address, tls=NO_TLS) as client:
            with pytest.raises(NoSecureConnection, match="HTTP/1 and no gRPC"):
                await client.list_models(timeout_s=60)
        async with Client(address, tls=believing) as client:
            with pytest.raises(NoSecureConnection, match="does not speak TLS"):
                await client.list_models(timeout_s=60)


async def test_a_server_that_says_nothing_has_not_answered_in_time() -> None:
    async with server_of(say_nothing) as address, Client(address, tls=NO_TLS) as client:
        with pytest.raises(DeadlineExceeded, match=f"{address} has not answered in time"):
            await client.list_models(timeout_s=0.1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:///nowhere/socket", "nowhere.invalid:50050"])
async def test_where_nobody_can_be_reached_nothing_answers(address: str) -> None:
    async with Client(address, tls=NO_TLS) as client:
        with pytest.raises(NothingAnswers):
            await client.list_models(timeout_s=60)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("sendmsg: Broken pipe (32)", "it hangs up at once"),
        ("Delayed close due to in-progress write (sendmsg: Connection reset by peer (104))", "it hangs up at once"),
        ("connection attempt timed out before receiving SETTINGS frame", "it takes the connection and says nothing"),
        ("something new", "something new"),
        ("getsockopt(SO_ERROR): No route to host", ""),
    ],
)
def test_what_comes_seldom_is_understood_too(said: str, why: str) -> None:
    details = f"connections to all backends failing; last error: UNKNOWN: {said}"
    assert why in why_unreachable(details)
    assert bool(why) == bool(why_unreachable(details))


def test_a_service_that_answers_with_an_error_has_been_reached() -> None:
    assert why_unreachable("Method not found!") == ""
