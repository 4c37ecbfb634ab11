"""Errors on the wire and back: a status code, a message, and `google.rpc` details in the trailing metadata."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from draftpool import errors
from draftpool.errors import DraftpoolError

ERROR_DOMAIN = "draftpool"
_DETAILS_KEY = "grpc-status-details-bin"
_MAX_MESSAGE_CHARS = 1000


def _all_classes(root: type[DraftpoolError]) -> list[type[DraftpoolError]]:
    return [root, *(found for child in root.__subclasses__() for found in _all_classes(child))]


_CLASS_BY_REASON = {error_class.reason: error_class for error_class in _all_classes(DraftpoolError)}

# For replies without our details: a proxy, the transport, an older server.
_CLASS_BY_STATUS: dict[grpc.StatusCode, type[DraftpoolError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InvalidRequest,  # the transport's: a message or header too large
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotAllowed,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
}


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: DraftpoolError) -> NoReturn:
    """End the call with the error's status, message, reason and retry hint."""
    message = error.message[:_MAX_MESSAGE_CHARS]  # headers that are too long would replace the error by another
    status = status_pb2.Status(code=error.status.value[0], message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    await context.abort(error.status, message, ((_DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort() always raises")


def from_rpc_error(rpc_error: grpc.aio.AioRpcError) -> DraftpoolError:
    """The error that the other side raised, of the same class; for others the nearest class of the status."""
    message = rpc_error.details() or rpc_error.code().name
    reason, retry_after_s = _details(rpc_error)
    error_class = _CLASS_BY_REASON.get(reason or "") or _CLASS_BY_STATUS.get(rpc_error.code(), errors.InternalError)
    return error_class(message, retry_after_s=retry_after_s)


def _details(rpc_error: grpc.aio.AioRpcError) -> tuple[str | None, float | None]:
    """The reason and the retry delay in seconds, where the trailing metadata has them."""
    reason: str | None = None
    retry_after_s: float | None = None
    for key, value in rpc_error.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                reason = info.reason
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    return reason, retry_after_s
