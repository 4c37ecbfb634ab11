"""Replicas that hang, each in its own way, and exchanges with them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from draftpool.errors import Unavailable
from draftpool.v1 import verifier_pb2
from orchestrator.liveness import StallPolicy
from orchestrator.model_stream import ModelStream
from orchestrator.replicas import VerifierReplica
from tests.unit.orchestrator.fake_services import FakeVerifier, Fault, until

MESSAGE = verifier_pb2.VerifyRequest(committed_token_ids=[1], session=verifier_pb2.VerifySession(model="alphabet"))


@asynccontextmanager
async def stream_to(address: str, policy: StallPolicy) -> AsyncIterator[ModelStream[verifier_pb2.VerifyReply]]:
    replica = VerifierReplica(address)
    stream: ModelStream[verifier_pb2.VerifyReply] = ModelStream(
        replica, replica.stub.Verify, timeout_s=None, stall=policy
    )
    try:
        yield stream
    finally:
        stream.close()
        assert replica.num_streams == 0
        await replica.channel.close()


@asynccontextmanager
async def silent_port() -> AsyncIterator[str]:
    """A process that is stopped before anybody has connected: the kernel takes the connection, nobody says a word."""
    never = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await never.wait()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        never.set()


async def test_one_that_was_stopped_before_it_was_connected_is_found_out() -> None:
    async with silent_port() as address, stream_to(address, StallPolicy(0.2)) as stream:
        with pytest.raises(Unavailable, match="neither replies nor answers"):
            await stream.exchange(MESSAGE, num_tokens=1)


@pytest.mark.parametrize("fate", [Fault.HANG, Fault.FREEZE])
async def test_a_caller_that_is_cancelled_meanwhile_is_cancelled(fate: Fault) -> None:
    verifier = FakeVerifier(always=fate)
    await verifier.start()
    async with stream_to(verifier.address, StallPolicy(0.05)) as stream:
        task = asyncio.create_task(stream.exchange(MESSAGE, num_tokens=1))
        await until(lambda: verifier.num_messages == 1)
        await asyncio.sleep(0.07)  # while it is being probed, perhaps
        task.cancel()
        with pytest.raises((asyncio.CancelledError, Unavailable)):
            await task
        assert task.cancelled() or fate is Fault.FREEZE
    await verifier.stop()


async def test_one_that_lives_is_given_up_after_the_limit_and_not_before() -> None:
    verifier = FakeVerifier(always=Fault.HANG)
    await verifier.start()
    async with stream_to(verifier.address, StallPolicy(0.2, limit_s=0.7)) as stream:
        start_s = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="lives"):
            await stream.exchange(MESSAGE, num_tokens=1)
        assert asyncio.get_running_loop().time() - start_s >= 0.7
    await verifier.stop()


async def test_exchanges_that_take_no_longer_than_the_stall_are_not_probed_however_many_there_are() -> None:
    verifier = FakeVerifier()
    await verifier.start()
    async with stream_to(verifier.address, StallPolicy(0.3)) as stream:
        probes = count_probes(stream.replica)
        message = verifier_pb2.VerifyRequest(committed_token_ids=[1])
        await stream.exchange(MESSAGE, num_tokens=1)
        for num_tokens in range(2, 40):
            await stream.exchange(message, num_tokens=num_tokens)
            await asyncio.sleep(0.02)  # longer than the stall, all together
        assert probes() == 0
    await verifier.stop()


def count_probes(replica: VerifierReplica) -> Callable[[], int]:
    """How often the replica has been probed since."""
    num_probes = 0
    probe = replica.probe

    async def counted(timeout_s: float) -> bool:
        nonlocal num_probes
        num_probes += 1
        return await probe(timeout_s)

    replica.probe = counted  # type: ignore[method-assign]
    return lambda: num_probes
