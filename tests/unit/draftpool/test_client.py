"""The client against a server whose answers are written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest

from draftpool.client import NO_DRAFT, Client, Finish, NothingAnswers, Round, Start, Token, TopLogprob, TreeShape
from draftpool.errors import BadParameter, DeadlineExceeded, Draining, InternalError, UnknownModel
from draftpool.events import events_from_wire
from draftpool.rpc.interceptors import MannersInterceptor, request_id
from draftpool.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2, tree_pb2

START = generation_pb2.GenerateReply(
    start=generation_pb2.GenerationStart(request_id="r", seed=2**64 - 1, num_prompt_tokens=3)
)
TOKENS = generation_pb2.GenerateReply(
    tokens=[
        generation_pb2.GeneratedToken(id=1, text="a", drafted=True, logprob=-0.5),
        generation_pb2.GeneratedToken(id=2, text="b"),
    ],
    round=generation_pb2.Round(
        policy=tree_pb2.TreePolicy(branching=tree_pb2.Branching(factors=[2, 1])),
        num_nodes=4,
        num_accepted=1,
        was_hedged=True,
        draft_was_late=True,
    ),
)
FINISH = generation_pb2.GenerateReply(
    finish=generation_pb2.GenerationFinish(
        reason=generation_pb2.FINISH_REASON_STOP,
        matched_stop="!",
        usage=generation_pb2.Usage(num_new_tokens=2, num_rounds=1, total_us=1_000_000),
    )
)


class FakeGeneration(generation_pb2_grpc.GenerationServicer):
    """Replies by the model's name, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[generation_pb2.GenerateRequest] = []
        self.request_ids: list[str] = []
        self.num_cancelled = 0

    async def Generate(
        self, request: generation_pb2.GenerateRequest, _context: Any
    ) -> AsyncIterator[generation_pb2.GenerateReply]:
        self.requests.append(request)
        self.request_ids.append(request_id.get())
        if request.model == "unknown":
            raise UnknownModel("no target is called 'unknown'")
        yield START
        if request.model == "endless":
            try:
                await asyncio.Event().wait()
            finally:
                self.num_cancelled += 1
        yield TOKENS
        if request.model == "breaks" and len(self.requests) == 1:
            raise Draining("going")
        if request.model != "unfinished":
            yield FINISH
        if request.model == "no goodbye":
            raise Draining("going")

    async def ListModels(self, _request: Any, _context: Any) -> generation_pb2.ListModelsReply:
        return generation_pb2.ListModelsReply(
            models=[generation_pb2.ModelInfo(name="m", num_parameters=7, has_drafter=True)]
        )


@asynccontextmanager
async def served() -> AsyncIterator[tuple[FakeGeneration, Client]]:
    fake = FakeGeneration()
    server = grpc.aio.server(interceptors=[MannersInterceptor()])
    generation_pb2_grpc.add_GenerationServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}") as client:
            yield fake, client
    finally:
        await server.stop(None)


async def test_events_come_in_the_order_of_the_wire() -> None:
    async with served() as (_, client):
        events = [event async for event in client.generate("m", "hello", want_rounds=True)]
    assert events[0] == Start("r", 2**64 - 1, 3)
    assert events[1:3] == [Token(1, "a", True, -0.5), Token(2, "b", False, None)]
    assert isinstance(events[3], Round)
    assert events[3].shape == TreeShape((2, 1))
    assert (events[3].was_hedged, events[3].draft_was_late) == (True, True)
    assert isinstance(events[4], Finish)
    assert (events[4].reason, events[4].matched_stop) == ("stop", "!")


async def test_a_completion_is_the_sum_of_its_events() -> None:
    async with served() as (_, client):
        completion = await client.complete("m", [1, 2])
    assert (completion.text, completion.token_ids) == ("ab", (1, 2))
    assert completion.finish.usage.tokens_per_pass == 2
    assert completion.finish.usage.tokens_per_second == pytest.approx(2)


async def test_what_is_left_out_is_absent_on_the_wire() -> None:
    async with served() as (fake, client):
        await client.complete("m", "hello")
    assert fake.requests == [generation_pb2.GenerateRequest(model="m", text="hello", sampling={})]


async def test_what_is_given_arrives() -> None:
    async with served() as (fake, client):
        await client.complete(
            "m", [4, 5], max_new_tokens=9, temperature=0, top_k=3, top_p=0.5, seed=8, stop=["x"], drafting=NO_DRAFT
        )
        await client.complete("m", "t", drafting=TreeShape((2, 1)), ignore_eos=True, want_logprobs=True)
        await client.complete("m", "t", acceptance="rejection")
    expected = generation_pb2.GenerateRequest(
        model="m",
        token_ids=generation_pb2.TokenIds(ids=[4, 5]),
        max_new_tokens=9,
        sampling=sampling_pb2.SamplingParams(temperature=0, top_k=3, top_p=0.5, seed=8),
        stop=["x"],
        drafting=generation_pb2.Drafting(off=True),
    )
    assert fake.requests[0] == expected
    assert list(fake.requests[1].drafting.policy.branching.factors) == [2, 1]
    assert fake.requests[1].ignore_eos
    assert fake.requests[1].want_logprobs
    assert fake.requests[2].acceptance_rule == sampling_pb2.ACCEPTANCE_RULE_REJECTION


async def test_there_are_two_rules_of_acceptance() -> None:
    async with served() as (fake, client):
        with pytest.raises(BadParameter, match="coupled or rejection, got 'lenient'"):
            await client.complete("m", "t", acceptance="lenient")
    assert not fake.requests


async def test_errors_come_out_as_the_class_that_was_raised() -> None:
    async with served() as (_, client):
        with pytest.raises(UnknownModel, match="no target is called 'unknown'"):
            await client.complete("unknown", "hello")


async def test_leaving_the_loop_cancels_the_generation() -> None:
    async with served() as (fake, client):
        async with aclosing(client.generate("endless", "hello")) as generation:
            async for event in generation:
                assert isinstance(event, Start)
                break
        async with asyncio.timeout(5):
            while fake.num_cancelled == 0:
                await asyncio.sleep(0.01)


async def test_a_timeout_is_a_deadline() -> None:
    async with served() as (_, client):
        with pytest.raises(DeadlineExceeded):
            await client.complete("endless", "hello", timeout_s=0.1)


async def test_a_generation_without_an_end_is_an_error() -> None:
    async with served() as (_, client):
        with pytest.raises(InternalError, match="without saying why"):
            await client.complete("unfinished", "hello")


async def test_models_are_listed() -> None:
    async with served() as (_, client):
        [model] = await client.list_models()
    assert (model.name, model.num_parameters, model.has_drafter) == ("m", 7, True)


@pytest.mark.parametrize("options", [{"max_new_tokens": -1}, {"seed": 2**64}, {"top_k": -1}])
async def test_a_number_that_no_field_can_hold_is_a_bad_parameter(options: Any) -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(BadParameter, match="cannot be sent"):
            await client.complete("m", "hello", **options)


async def test_a_misspelt_option_is_an_error() -> None:
    options: Any = {"max_tokens": 3}
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="max_tokens"):
            await client.complete("m", "hello", **options)


async def test_where_nothing_listens_nothing_answers() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(NothingAnswers, match=r"nothing answers at 127\.0\.0\.1:1"):
            await client.complete("m", "hello")
        with pytest.raises(NothingAnswers):
            await client.list_models()


async def test_every_option_reaches_the_server() -> None:
    async with served() as (fake, client):
        await client.complete(
            "m",
            [1, 2],
            max_new_tokens=9,
            min_new_tokens=2,
            temperature=0.5,
            top_k=3,
            top_p=0.5,
            min_p=0.25,
            typical_p=0.75,
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=0.5,
            logit_bias={3: -1.0},
            allowed_token_ids=[3, 4],
            banned_token_ids=[4],
            seed=7,
            stop=["!"],
            stop_token_ids=[5],
            json_schema={"type": "integer"},
            ignore_eos=False,
            want_logprobs=True,
            num_top_logprobs=2,
            want_rounds=True,
            priority="batch",
            resume_token_ids=[6, 7],
        )
    expected = generation_pb2.GenerateRequest(
        model="m",
        token_ids=generation_pb2.TokenIds(ids=[1, 2]),
        max_new_tokens=9,
        sampling=sampling_pb2.SamplingParams(
            min_new_tokens=2,
            temperature=0.5,
            top_k=3,
            top_p=0.5,
            min_p=0.25,
            typical_p=0.75,
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=0.5,
            logit_bias={3: -1.0},
            allowed_token_ids=[3, 4],
            banned_token_ids=[4],
            seed=7,
            stop_token_ids=[5],
            grammar=sampling_pb2.Grammar(json_schema='{"type": "integer"}'),
        ),
        stop=["!"],
        want_logprobs=True,
        num_top_logprobs=2,
        want_rounds=True,
        priority=generation_pb2.PRIORITY_BATCH,
        resume_token_ids=[6, 7],
    )
    assert fake.requests == [expected]


async def test_a_priority_that_does_not_exist_cannot_be_asked_for() -> None:
    priority: Any = "urgent"
    async with served() as (fake, client):
        with pytest.raises(BadParameter, match="there are interactive, standard, batch"):
            await client.complete("m", "a", priority=priority)
    assert fake.requests == []


async def test_a_stream_that_breaks_is_continued_with_its_seed_its_tokens_and_its_id() -> None:
    """And the caller sees one start, every token once, and the end."""
    async with served() as (fake, client):
        events = [event async for event in client.generate("breaks", "hello", stop=["x"])]
    first, second = fake.requests
    assert (list(second.resume_token_ids), second.sampling.seed) == ([1, 2], 2**64 - 1)
    second.ClearField("resume_token_ids")
    second.sampling.ClearField("seed")
    assert first == second
    assert fake.request_ids[1] == "r"
    kinds = [type(event) for event in events if not isinstance(event, Round)]
    assert kinds == [Start, Token, Token, Token, Token, Finish]


async def test_a_stream_whose_goodbye_is_lost_is_complete() -> None:
    async with served() as (fake, client):
        completion = await client.complete("no goodbye", "hello")
    assert completion.text == "ab"
    assert len(fake.requests) == 1


async def test_a_text_is_held_to_one_grammar_at_most() -> None:
    async with served() as (fake, client):
        with pytest.raises(BadParameter, match="json_schema and regex exclude each other"):
            await client.complete("m", "a", json_schema=True, regex="a")
    assert fake.requests == []


async def test_an_option_that_does_not_exist_is_a_mistake_in_the_program() -> None:
    async with served() as (_, client):
        with pytest.raises(TypeError, match="topk"):
            await client.complete("m", "a", topk=3)


def test_tokens_and_ends_are_read_with_all_that_was_asked_for() -> None:
    reply = generation_pb2.GenerateReply(
        tokens=[
            generation_pb2.GeneratedToken(
                id=2, logprob=-1, top_logprobs=[generation_pb2.TopLogprob(id=9, logprob=-0.25, text="x")]
            )
        ],
        finish=generation_pb2.GenerationFinish(
            reason=generation_pb2.FINISH_REASON_STOP, matched_stop_token_id=0, usage=generation_pb2.Usage()
        ),
    )
    token, finish = events_from_wire(reply)
    assert token.top_logprobs == (TopLogprob(9, -0.25, "x"),)
    assert (finish.reason, finish.matched_stop_token_id) == ("stop", 0)
