"""The client SDK: generate text with a draftpool from Python. No torch, no model files.

    async with Client("127.0.0.1:50050") as client:
        async for event in client.generate("tiny-llama", "Question: ...", max_new_tokens=100, temperature=0):
            if isinstance(event, Token):
                print(event.text, end="", flush=True)

Errors are the classes of `draftpool.errors`, the same that the services raise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

import grpc

from draftpool.access import access_to
from draftpool.continuation import Continuation
from draftpool.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DraftpoolError,
    NoSecureConnection,
    NothingAnswers,
    Unavailable,
)
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
    model_from_wire,
)
from draftpool.generate_request import AcceptanceRule, GenerateOptions, Prompt, generate_request
from draftpool.learned import LearnedArm, LearnedLoad, LearnedSituation, learned_from_wire
from draftpool.patience import Patience, Retries
from draftpool.rpc.channel import CLIENT_OPTIONS, open_channel
from draftpool.rpc.interceptors import CLIENT_ID_KEY, REQUEST_ID_KEY
from draftpool.rpc.status import from_rpc_error
from draftpool.rpc.unreachable import why_unreachable
from draftpool.settings import TlsSettings
from draftpool.tree import NO_DRAFT, TreeShape
from draftpool.tree_policy import BestFirst, TreePolicy
from draftpool.v1 import bandit_pb2, bandit_pb2_grpc, generation_pb2, generation_pb2_grpc

__all__ = [
    "NO_DRAFT",
    "AcceptanceRule",
    "BestFirst",
    "Client",
    "Completion",
    "ConnectionLost",
    "Event",
    "Finish",
    "GenerateOptions",
    "LearnedArm",
    "LearnedLoad",
    "LearnedSituation",
    "Model",
    "NoSecureConnection",
    "NothingAnswers",
    "Patience",
    "Prompt",
    "Round",
    "Start",
    "Token",
    "TopLogprob",
    "TreePolicy",
    "TreeShape",
    "Usage",
]


_DEFAULT_PATIENCE = Patience()


class Client:
    """A connection to an orchestrator, for any number of concurrent generations on one event loop."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        tls: TlsSettings | None = None,
        client_id: str | None = None,
        patience: Patience = _DEFAULT_PATIENCE,
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: `host:port`; several orchestrators take turns, behind one name as `dns:///name:port` or as
                `ipv4:10.0.0.1:50050,10.0.0.2:50050`.
            api_key: who is asking; None: that of the environment, `DRAFTPOOL_API_KEY` or `DRAFTPOOL_API_KEY_FILE`.
            tls: whom to believe; None: as the environment says, `DRAFTPOOL_TLS_CA_FILE` and others.
            client_id: whose share of the orchestrator's queue requests take, where that asks for no key; None: this
                machine's.
            patience: how long to go on with what was lost, and to wait where there is no capacity.

        Raises:
            BadParameter: the key or the files cannot be used, or the key would go to another machine in plain text.
        """
        self.address = address
        self._client_id = client_id
        self._patience = patience
        self._was_reached = False
        self._access = access_to(address, api_key=api_key, tls=tls)
        self._channel = open_channel(address, CLIENT_OPTIONS, tls=self._access.tls)
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

        A stream that breaks, because a connection or an orchestrator is lost or shuts down, is continued for as long as
        `patience` says: the rest is asked for with the seed and the tokens that are here, and the events go on as if
        nothing had happened. Rounds that were lost with the stream are missing among the `Round`s, and the `Usage` is
        the last stream's: `num_resumed_tokens` says how many tokens had come before it.

        Closing the generator before its end cancels the generation, which frees everything it held at once; use
        `contextlib.aclosing` where you may leave the loop early.

        Args:
            model: a name from `list_models`.
            timeout_s: deadline of the whole generation, in seconds.

        Raises:
            NothingAnswers: there is no server at the address.
            NoSecureConnection: there is one, and TLS does not come about.
            DraftpoolError: what the service answered, of the same class.
        """
        expires_at = None if timeout_s is None else time.monotonic() + timeout_s
        story = Continuation(generate_request(model, prompt, options))
        retries = Retries(self._patience, was_reached=self._was_reached)
        while True:
            try:
                async with aclosing(self._stream(story, expires_at)) as replies:
                    async for reply in replies:
                        self._was_reached = True
                        retries.progress()
                        for event in story.events(reply):
                            yield event
                return
            except DraftpoolError as error:
                if story.is_finished:  # only the goodbye was lost
                    return
                pause_s = retries.pause_s(error)
            await asyncio.sleep(min(pause_s, _remaining_s(expires_at, default=pause_s)))

    async def complete(
        self, model: str, prompt: Prompt, *, timeout_s: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Completion:
        """`generate` to its end. Raises as it does."""
        async with aclosing(self.generate(model, prompt, timeout_s=timeout_s, **options)) as generation:
            return Completion.from_events([event async for event in generation])

    async def list_models(self, *, timeout_s: float | None = 10.0) -> tuple[Model, ...]:
        """The targets that can be asked now, by name. Raises as `generate` does."""
        call = self._stub.ListModels(
            generation_pb2.ListModelsRequest(), timeout=timeout_s, metadata=tuple(self._access.metadata.items())
        )
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            raise await self._error(error, call) from None
        return tuple(model_from_wire(info) for info in reply.models)

    async def describe_bandit(self, *, timeout_s: float | None = 10.0) -> tuple[LearnedSituation, ...]:
        """What has been learned about draft trees, by target, drafter and sampling. Raises as `generate` does."""
        call = self._bandit_stub.DescribeBandit(
            bandit_pb2.DescribeBanditRequest(), timeout=timeout_s, metadata=tuple(self._access.metadata.items())
        )
        try:
            reply = await call
        except grpc.aio.AioRpcError as error:
            raise await self._error(error, call) from None
        return tuple(map(learned_from_wire, reply.situations))

    async def _stream(
        self, story: Continuation, expires_at: float | None
    ) -> AsyncGenerator[generation_pb2.GenerateReply, None]:
        """The replies of one call, which ends with this generator. Raises DraftpoolError."""
        identity = {CLIENT_ID_KEY: self._client_id, REQUEST_ID_KEY: story.request_id, **self._access.metadata}
        call = self._stub.Generate(
            story.request,
            timeout=None if expires_at is None else _remaining_s(expires_at, default=0),
            metadata=tuple((key, value) for key, value in identity.items() if value is not None),
        )
        try:
            async for reply in call:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise await self._error(error, call) from None
        finally:
            call.cancel()

    async def _error(self, error: grpc.aio.AioRpcError, call: grpc.aio.Call) -> DraftpoolError:
        """The service's own error; where the connection itself failed, a sentence that says so."""
        ours = from_rpc_error(error)
        if error.trailing_metadata() or not isinstance(ours, Unavailable | DeadlineExceeded):
            return ours
        if isinstance(ours, DeadlineExceeded):
            return DeadlineExceeded(f"{self.address} has not answered in time")
        if await call.initial_metadata():  # the server sends it as it takes the call up
            return ConnectionLost(f"the connection to {self.address} was lost: {ours.message}")
        if why := why_unreachable(ours.message):
            return NoSecureConnection(f"no connection to {self.address}: {why}")
        return NothingAnswers(f"nothing answers at {self.address}")


def _remaining_s(expires_at: float | None, *, default: float) -> float:
    return default if expires_at is None else max(0.0, expires_at - time.monotonic())
