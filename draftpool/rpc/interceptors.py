"""What every call gets: a request id, metrics, and errors turned into statuses."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from prometheus_client import Counter, Gauge, Histogram

from draftpool.errors import DraftpoolError, InternalError
from draftpool.rpc import status
from draftpool.rpc.open_calls import OpenCalls

log = logging.getLogger(__name__)

REQUEST_ID_KEY = "x-request-id"
CLIENT_ID_KEY = "x-client-id"
_MAX_REQUEST_ID_CHARS = 128

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""Of the call that the running task serves."""

CALLS = Counter("draftpool_rpc_calls_total", "Calls ended, by method and status.", ["method", "status"])
CALL_SECONDS = Histogram("draftpool_rpc_seconds", "Duration of whole calls, streams included.", ["method"])
OPEN_CALLS = Gauge("draftpool_rpc_open_calls", "Calls in progress.", ["method"])

Handler = Any  # grpc.RpcMethodHandler, whose attributes its stubs leave untyped
Behaviour = Callable[[Any, Any], Any]  # (request or requests, context)
Context = grpc.aio.ServicerContext[Any, Any]
Scope = Callable[[Context], AbstractAsyncContextManager[None]]


class MannersInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method."""

    def __init__(self, calls: OpenCalls | None = None) -> None:
        """`calls` is told of every call, and may refuse and end them."""
        self._calls = calls or OpenCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):  # health and reflection mind their own manners
            return handler
        return around_calls(handler, partial(_scope, method, self._calls))


def around_calls(handler: Handler, scope: Scope) -> Handler:
    """The same method, each call within a scope; streaming methods are async generators."""

    async def unary(request: Any, context: Context) -> Any:
        async with scope(context):
            return await handler.unary_unary(request, context)

    def streaming(behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            # Closing the inner generator at once, not when it is collected, is what frees a session on cancellation.
            async with scope(context), aclosing(behaviour(request, context)) as replies:
                async for reply in replies:
                    yield reply

        return call

    codecs = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(unary, *codecs)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(streaming(handler.unary_stream), *codecs)
    if handler.stream_stream:
        return grpc.stream_stream_rpc_method_handler(streaming(handler.stream_stream), *codecs)
    return handler


@asynccontextmanager
async def _scope(method: str, calls: OpenCalls, context: Context) -> AsyncIterator[None]:
    request_id.set(_request_id(context))
    await context.send_initial_metadata(((REQUEST_ID_KEY, request_id.get()),))
    with calls.counted(), _measured(method) as outcome:
        try:
            with calls.served():
                yield
            outcome.status = "OK"
        except DraftpoolError as error:
            outcome.status = error.status.name
            await status.abort(context, error)
        except Exception:
            log.exception("a bug in %s", method)
            outcome.status = InternalError.status.name
            message = f"internal error; the server's log has it under request {request_id.get()}"
            await status.abort(context, InternalError(message))


@dataclass
class _Outcome:
    """How a call ended; cancelled unless somebody says otherwise."""

    status: str = "CANCELLED"


@contextmanager
def _measured(method: str) -> Iterator[_Outcome]:
    start = time.perf_counter()
    outcome = _Outcome()
    with OPEN_CALLS.labels(method).track_inprogress():
        try:
            yield outcome
        finally:
            CALLS.labels(method, outcome.status).inc()
            CALL_SECONDS.labels(method).observe(time.perf_counter() - start)


def _request_id(context: Context) -> str:
    """The caller's, where it sent a sane one: it goes into logs and headers."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and value.isascii() and value.isprintable():
            return value[:_MAX_REQUEST_ID_CHARS]
    return uuid.uuid4().hex
