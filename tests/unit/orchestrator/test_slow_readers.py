"""A client that does not read is not generated for, and holds nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from draftpool.client import Client
from draftpool.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from orchestrator import metrics
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, until
from tests.unit.orchestrator.serving import orchestrator_of

MAX_CONTEXT = 5000
SMALL_WINDOW = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))

REQUEST = generation_pb2.GenerateRequest(
    model="alphabet",
    text="a",
    sampling=sampling_pb2.SamplingParams(temperature=0),
    drafting=generation_pb2.Drafting(off=True),
    max_new_tokens=MAX_CONTEXT - 10,
)

Call = grpc.aio.UnaryStreamCall[generation_pb2.GenerateRequest, generation_pb2.GenerateReply]


@asynccontextmanager
async def unread(address: str) -> AsyncIterator[Call]:
    """A generation whose client has read the first reply and no more."""
    async with grpc.aio.insecure_channel(address, options=SMALL_WINDOW) as channel:
        call = generation_pb2_grpc.GenerationStub(channel).Generate(REQUEST)
        await call.read()
        yield call
        call.cancel()


async def standstill(verifier: FakeVerifier) -> int:
    """The number of answers that the verifier stops at: the same for a good while."""
    async with asyncio.timeout(20):
        while True:
            before = verifier.num_answers
            await asyncio.sleep(0.5)
            if 0 < before == verifier.num_answers:
                return before


async def test_rounds_stop_when_the_client_stops_reading_and_go_on_when_it_reads() -> None:
    verifier = FakeVerifier(max_context_tokens=MAX_CONTEXT)
    async with orchestrator_of(verifier) as address, unread(address) as call:
        num_rounds = await standstill(verifier)
        assert num_rounds < MAX_CONTEXT / 4
        for _ in range(num_rounds):
            await call.read()
        await until(lambda: verifier.num_answers > num_rounds)
        assert await standstill(verifier) < MAX_CONTEXT / 2


async def test_our_own_client_lets_no_more_than_http2s_first_window_through() -> None:
    """64 KiB. Without asking for it, gRPC's window would grow to megabytes while nobody reads."""
    wordy = FakeVerifier(max_context_tokens=MAX_CONTEXT, always=with_tops)
    async with orchestrator_of(wordy) as address, Client(address) as client:
        generation = client.generate("alphabet", "a", temperature=0, num_top_logprobs=20)
        await anext(generation)
        num_rounds = await standstill(wordy)
        assert num_rounds * BYTES_A_ROUND < 2 * 65_536
        await generation.aclose()


BYTES_A_ROUND = 20 * len(
    generation_pb2.GeneratedToken(
        top_logprobs=[generation_pb2.TopLogprob(id=1, logprob=-1, text="a")]
    ).SerializeToString()
)


def with_tops(reply):
    """What `num_top_logprobs=20` asks for."""
    reply.chosen_logprobs.extend([-1.0] * len(reply.chosen_token_ids))
    reply.top_token_ids.extend(list(range(1, 21)) * len(reply.chosen_token_ids))
    reply.top_logprobs.extend([-1.0] * 20 * len(reply.chosen_token_ids))
    return reply


async def test_an_unread_request_gives_sessions_and_place_back_and_goes_on_later_with_the_same_tokens() -> None:
    verifier, drafter = FakeVerifier(max_context_tokens=MAX_CONTEXT), FakeDrafter()
    async with orchestrator_of(verifier, drafter, max_requests=1, slow_reader_s=0.2) as address:
        async with unread(address) as call:
            await until(lambda: metrics.PAUSED._value.get() == 1)
            await until(lambda: verifier.num_open == 0)
            async with Client(address) as other:
                completion = await other.complete("alphabet", "x", temperature=0, max_new_tokens=3)
                assert completion.text == "yza"
            replies = await rest(call)
        assert metrics.PAUSED._value.get() == 0
    text = "".join(token.text for reply in replies for token in reply.tokens)
    usage = replies[-1].finish.usage
    expected = ("abcdefghijklmnopqrstuvwxyz" * (MAX_CONTEXT // 26 + 1))[1:]
    assert text == expected[: REQUEST.max_new_tokens]
    assert usage.num_verify_sessions >= 2
    assert usage.reader_us >= 200_000


async def test_who_reads_again_waits_for_a_place_like_everybody() -> None:
    verifier = FakeVerifier(max_context_tokens=MAX_CONTEXT)
    async with orchestrator_of(verifier, max_requests=1, slow_reader_s=0.2) as address, unread(address) as call:
        await until(lambda: metrics.PAUSED._value.get() == 1)
        verifier.ration = asyncio.Semaphore(0)
        async with Client(address) as other:
            running = asyncio.create_task(other.complete("alphabet", "x", temperature=0, max_new_tokens=3))
            await until(lambda: verifier.num_open == 1)
            num_answers = verifier.num_answers
            reading = asyncio.create_task(rest(call))
            await until(lambda: metrics.WAITING.labels("standard")._value.get() == 1)
            assert verifier.num_answers == num_answers
            for _ in range(MAX_CONTEXT):
                verifier.ration.release()
            assert (await running).text == "yza"
            assert sum(len(reply.tokens) for reply in await reading) == REQUEST.max_new_tokens


async def rest(call: Call) -> list[generation_pb2.GenerateReply]:
    replies = []
    while (reply := await call.read()) is not grpc.aio.EOF:
        replies.append(reply)
    return replies


@pytest.mark.parametrize("num_replies_read", [1, 2])
async def test_a_paused_request_that_is_cancelled_leaves_nothing(num_replies_read: int) -> None:
    verifier = FakeVerifier(max_context_tokens=MAX_CONTEXT)
    async with orchestrator_of(verifier, max_requests=1, slow_reader_s=0.2) as address:
        async with unread(address) as call:
            for _ in range(num_replies_read - 1):
                await call.read()
            await until(lambda: metrics.PAUSED._value.get() == 1)
        await until(lambda: metrics.PAUSED._value.get() == 0)
        async with Client(address) as other:
            assert (await other.complete("alphabet", "a", temperature=0, max_new_tokens=2)).text == "bc"
