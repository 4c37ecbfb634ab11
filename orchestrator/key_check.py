"""API keys at the door of the public API: who shows none gets no further, who shows one is held to its limits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import grpc
from prometheus_client import Counter

from draftpool.errors import NotAllowed, Unauthenticated
from draftpool.rpc.interceptors import Behaviour, Context, Handler
from draftpool.v1 import generation_pb2
from draftpool.watched_files import WatchedFiles
from orchestrator.api_keys import ApiKey, ApiKeys, KeyEntry
from orchestrator.client_identity import key_name
from orchestrator.key_limits import KeyUse, KeyUses

KEY_CALLS = Counter("draftpool_key_calls_total", "Calls let in, by the name of their API key.", ["key"])
KEY_TOKENS = Counter(
    "draftpool_key_tokens_total", "Tokens of prompts and answers, by the name of the API key.", ["key"]
)

_PRIORITIES = {
    "interactive": generation_pb2.PRIORITY_INTERACTIVE,
    "standard": generation_pb2.PRIORITY_STANDARD,
    "batch": generation_pb2.PRIORITY_BATCH,
}


class KeyCheck(grpc.aio.ServerInterceptor):
    """Health and reflection need no key: they tell nothing that the proto and a port scan do not."""

    def __init__(self, keys: WatchedFiles[ApiKeys]) -> None:
        self._keys = keys
        self._uses = KeyUses()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        try:
            key = self._keys.current().authenticate(handler_call_details.invocation_metadata or ())
        except Unauthenticated as error:
            return _refusal(error)
        return self._limited(handler, key)

    def _limited(self, handler: Handler, key: ApiKey) -> Handler:
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(partial(self._answer, handler.unary_unary, key), *codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(partial(self._answers, handler.unary_stream, key), *codecs)
        raise NotImplementedError("the public API has no streams of requests")

    async def _answer(self, behaviour: Behaviour, key: ApiKey, request: Any, context: Context) -> Any:
        with self._counted(key):
            return await behaviour(request, context)

    async def _answers(self, behaviour: Behaviour, key: ApiKey, request: Any, context: Context) -> AsyncIterator[Any]:
        with self._counted(key) as use:
            _hold_to(key.entry, request)
            async with aclosing(behaviour(request, context)) as replies:
                async for reply in replies:
                    num_tokens = reply.start.num_prompt_tokens + len(reply.tokens)
                    use.use_tokens(num_tokens, time.monotonic())
                    KEY_TOKENS.labels(key.name).inc(num_tokens)
                    yield reply

    @contextmanager
    def _counted(self, key: ApiKey) -> Iterator[KeyUse]:
        """Raises RateLimited."""
        use = self._uses.of(key)
        use.start(key.entry, time.monotonic())
        KEY_CALLS.labels(key.name).inc()
        key_name.set(key.name)
        try:
            yield use
        finally:
            use.end()


def _hold_to(entry: KeyEntry, request: generation_pb2.GenerateRequest) -> None:
    """Lower what the request leaves open, or wishes only, to what its key allows.

    Raises:
        NotAllowed: it asks for more tokens.
    """
    if entry.max_new_tokens is not None:
        if request.max_new_tokens > entry.max_new_tokens:
            raise NotAllowed(f"this API key allows {entry.max_new_tokens} new tokens a request")
        if not request.HasField("max_new_tokens"):
            request.max_new_tokens = entry.max_new_tokens
    most_urgent = _PRIORITIES[entry.priority]
    asked = request.priority or generation_pb2.PRIORITY_STANDARD
    if asked < most_urgent:
        request.priority = most_urgent


def _refusal(error: Unauthenticated) -> Handler:
    """A method that reads nothing of what is sent, and so holds no memory for strangers."""

    async def refuse(_requests: Any, _context: Context) -> AsyncIterator[Any]:
        raise error
        yield

    return grpc.stream_stream_rpc_method_handler(refuse)
