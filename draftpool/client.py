"""The client SDK: generate text with a draftpool from Python. No torch, no model files.

    async with Client("127.0.0.1:50050") as client:
        async for event in client.generate("tiny-llama", "Question: ...", max_new_tokens=100, temperature=0):
            if isinstance(event, Token):
                print(event.text, end="", flush=True)

Errors are the classes of `draftpool.errors`, the same that the services raise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeAlias, TypedDict, Unpack

import grpc

from draftpool.errors import BadParameter, DraftpoolError, Unavailable
from draftpool.events import (
    Completion,
    Event,
    Finish,
    Model,
    Round,
    Start,
    Token,
    Usage,
    events_from_wire,
    model_from_wire,
)
from draftpool.rpc.channel import open_channel
from draftpool.rpc.status import from_rpc_error
from draftpool.tree import NO_DRAFT, TreeShape
from draftpool.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from draftpool.wire import shape_to_wire

__all__ = [
    "NO_DRAFT",
    "Client",
    "Completion",
    "Event",
    "Finish",
    "GenerateOptions",
    "Model",
    "NothingAnswers",
    "Prompt",
    "Round",
    "Start",
    "Token",
    "TreeShape",
    "Usage",
]

Prompt: TypeAlias = str | Sequence[int]
"""Text, or token ids of the target."""


class NothingAnswers(Unavailable):
    """No server could be reached at the client's address."""


class GenerateOptions(TypedDict, total=False):
    """What a generation may be asked for beyond model and prompt. Each may be left out.

    Attributes:
        max_new_tokens: 1 or more; None goes on until the model ends the text or its context is full.
        temperature: 0 is greedy; None takes the server's default, 1.
        top_k: keep the k most probable tokens; 0 or None keeps all.
        top_p: keep the smallest set of most probable tokens whose probability reaches it; None keeps all.
        seed: 64 bits; with None one is drawn, and `Start` says which.
        stop: generation ends before the first of these strings.
        drafting: the tree of every round, `NO_DRAFT` for plain decoding; None leaves it to the server, which
            learns what pays. It changes the speed, never the tokens.
        ignore_eos: go on after a token that ends the text.
        want_logprobs: fill `Token.logprob`.
        want_rounds: yield a `Round` after the tokens of each round.
    """

    max_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str]
    drafting: TreeShape | None
    ignore_eos: bool
    want_logprobs: bool
    want_rounds: bool


class Client:
    """A connection to an orchestrator, for any number of concurrent generations on one event loop."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = open_channel(address)
        self._stub = generation_pb2_grpc.GenerationStub(self._channel)

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
        call = self._stub.Generate(_checked_request(model, prompt, options), timeout=timeout_s)
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

    def _error(self, error: grpc.aio.AioRpcError, *, was_answered: bool) -> DraftpoolError:
        """The service's own error; where the connection itself failed, a sentence that says so."""
        ours = from_rpc_error(error)
        if type(ours) is not Unavailable or error.trailing_metadata():
            return ours
        if was_answered:
            return Unavailable(f"the connection to {self.address} was lost: {ours.message}")
        return NothingAnswers(f"nothing answers at {self.address}")


def _checked_request(model: str, prompt: Prompt, options: GenerateOptions) -> generation_pb2.GenerateRequest:
    """Raises BadParameter for what cannot even be sent; the server checks the rest."""
    try:
        return _request(model, prompt, **options)
    except ValueError as error:  # protobuf's, for numbers beyond their field and text that is not Unicode
        raise BadParameter(f"the request cannot be sent: {error}") from None


def _request(
    model: str,
    prompt: Prompt,
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] = (),
    drafting: TreeShape | None = None,
    ignore_eos: bool = False,
    want_logprobs: bool = False,
    want_rounds: bool = False,
) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest(
        model=model,
        max_new_tokens=max_new_tokens,
        sampling=sampling_pb2.SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        stop=stop,
        ignore_eos=ignore_eos,
        want_logprobs=want_logprobs,
        want_rounds=want_rounds,
    )
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    if drafting == NO_DRAFT:
        request.drafting.off = True
    elif drafting is not None:
        request.drafting.policy.CopyFrom(shape_to_wire(drafting))
    return request
