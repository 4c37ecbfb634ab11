"""The client SDK: generate text with a draftpool from Python. No torch, no model files.

    async with Client("127.0.0.1:50050") as client:
        async for event in client.generate("tiny-llama", "Question: ...", max_new_tokens=100, temperature=0):
            if isinstance(event, Token):
                print(event.text, end="", flush=True)

Errors are the classes of `draftpool.errors`, the same that the services raise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

import grpc

from draftpool.errors import DraftpoolError, Unavailable
from draftpool.events import (
    Completion,
    Event,
    Finish,
    Model,
    Round,
    Start,
    Token,
    TopLogprob,
    Usage,
    events_from_wire,
    model_from_wire,
)
from draftpool.generate_request import GenerateOptions, Prompt, generate_request
from draftpool.learned import LearnedArm, LearnedLoad, LearnedSituation, learned_from_wire
from draftpool.rpc.channel import open_channel
from draftpool.rpc.status import from_rpc_error
from draftpool.tree import NO_DRAFT, TreeShape
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.v1 import bandit_pb2, bandit_pb2_grpc, generation_pb2, generation_pb2_grpc

__all__ = [
    "NO_DRAFT",
    "BestFirst",
    "Client",
    "Completion",
    "Event",
    "Finish",
    "GenerateOptions",
    "LearnedArm",
    "LearnedLoad",
    "LearnedSituation",
    "Model",
    "NothingAnswers",
    "Prompt",
    "Round",
    "Start",
    "Token",
    "TopLogprob",
    "TreePolicy",
    "TreeShape",
    "Usage",
]


class NothingAnswers(Unavailable):
    """No server could be reached at the client's address."""


class Client:
    """A connection to an orchestrator, for any number of concurrent generations on one event loop."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = open_channel(address)
        self._stub = generation_pb2_grpc.GenerationStub(self._channel)
        self._bandit_stub = bandit_pb2_grpc.BanditStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every generation on it."""
        await self._channel.close()

    async def generate(
        self, model: str, prompt: Prompt, *, timeout_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[Event, None]:
        """Continue a prompt: a `Start`, then `Token`s as they are accepted, then a `Finish`.

        Closing the generator before its end cancels the generation, which frees everything it held at once; use
        `contextlib.aclosing` where you may leave the loop early.

        Args:
            model: a name from `list_models`.
            timeout_s: deadline of the whole generation, in seconds.

        Raises:
            NothingAnswers: there is no server at the address.
            DraftpoolError: what the service answered, of the same class.
        """
        call = self._stub.Generate(generate_request(model, prompt, options), timeout=timeout_s)
        was_answered = False
        try:
            async for reply in call:
                was_answered = True
                for event in events_from_wire(reply):
                    yield event
        except grpc.aio.AioRpcError as error:
            raise self._error(error, was_answered=was_answered) from None
        finally:
            call.cancel()

    async def complete(
        self, model: str, prompt: Prompt, *, timeout_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Completion:
        """`generate` to its end. Raises as it does."""
        async with aclosing(self.generate(model, prompt, timeout_s=timeout_s, **options)) as generation:
            return Completion.from_events([event async for event in generation])

    async def list_models(self, *, timeout_s: float | None = 10.0) -> tuple[Model, ...]:
        """The targets that can be asked now, by name. Raises as `generate` does."""
        try:
            reply = await self._stub.ListModels(generation_pb2.ListModelsRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._error(error, was_answered=False) from None
        return tuple(model_from_wire(info) for info in reply.models)

    async def describe_bandit(self, *, timeout_s: float | None = 10.0) -> tuple[LearnedSituation, ...]:
        """What has been learned about draft trees, by target, drafter and sampling. Raises as `generate` does."""
        try:
            reply = await self._bandit_stub.DescribeBandit(bandit_pb2.DescribeBanditRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._error(error, was_answered=False) from None
        return tuple(map(learned_from_wire, reply.situations))

    def _error(self, error: grpc.aio.AioRpcError, *, was_answered: bool) -> DraftpoolError:
        """The service's own error; where the connection itself failed, a sentence that says so."""
        ours = from_rpc_error(error)
        if type(ours) is not Unavailable or error.trailing_metadata():
            return ours
        if was_answered:
            return Unavailable(f"the connection to {self.address} was lost: {ours.message}")
        return NothingAnswers(f"nothing answers at {self.address}")
