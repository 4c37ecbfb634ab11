"""The one error hierarchy. Every class is bound to one gRPC status and to one machine-readable reason.

A service raises these; `draftpool.rpc.status` puts them on the wire (status code, message, and a
`google.rpc.ErrorInfo` with the reason) and turns them back into the same class on the other side.
Messages are written for the person who sent the request: what was wrong, and what would be right.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class DraftpoolError(Exception):
    """Anything this project reports on purpose.

    Attributes:
        status: the gRPC status code of the class.
        reason: UPPER_SNAKE_CASE, stable across versions; what a program should test for.
        message: one sentence for a person.
        retry_after_s: when trying again makes sense, in seconds; None where it does not.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "UNSPECIFIED"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidRequest(DraftpoolError):
    """The request can never succeed as it is."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class BadParameter(InvalidRequest):
    """A parameter is outside its range."""

    reason = "BAD_PARAMETER"


class EmptyContext(InvalidRequest):
    """A prompt, or a session's first message, holds no token."""

    reason = "EMPTY_CONTEXT"


class ContextTooLong(InvalidRequest):
    """More tokens than the model's context, or the replica's memory, can ever hold."""

    reason = "CONTEXT_TOO_LONG"


class MalformedTree(InvalidRequest):
    """A draft tree breaks the rules of `DraftTree`, or a reply does not fit its tree."""

    reason = "MALFORMED_TREE"


class TokenOutOfVocabulary(InvalidRequest):
    """A token id that the model does not have."""

    reason = "TOKEN_OUT_OF_VOCABULARY"


class BrokenProtocol(InvalidRequest):
    """A stream's messages come in an order that the contract does not allow."""

    reason = "BROKEN_PROTOCOL"


class UnknownModel(DraftpoolError):
    """No target of that name is served here."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "UNKNOWN_MODEL"


class UnknownVocabulary(DraftpoolError):
    """The drafter does not hold that vocabulary; register it and open the stream again."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "UNKNOWN_VOCABULARY"


class ContextLost(DraftpoolError):
    """The service no longer holds the session's state; open a new stream with the whole context."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CONTEXT_LOST"


class NoCapacity(DraftpoolError):
    """Nothing is wrong with the request; there is no room for it now."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "NO_CAPACITY"


class RateLimited(NoCapacity):
    """The caller's key has used what its limits allow for now."""

    reason = "RATE_LIMITED"


class Unauthenticated(DraftpoolError):
    """The caller has not shown who it is."""

    status = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class NotAllowed(DraftpoolError):
    """The caller is known, and may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED
    reason = "NOT_ALLOWED"


class Unavailable(DraftpoolError):
    """The replica cannot be reached, or is not ready."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class Draining(Unavailable):
    """The replica is shutting down; another one will answer."""

    reason = "DRAINING"


class NothingAnswers(Unavailable):
    """A client could reach no server at its address."""

    reason = "NOTHING_ANSWERS"


class NoSecureConnection(Unavailable):
    """A client reached something, and no connection came about: the two do not agree on TLS, whether to or whom to
    believe, or it is no gRPC server."""

    reason = "NO_SECURE_CONNECTION"


class ConnectionLost(Unavailable):
    """A client's call was under way, and its connection to the server ended."""

    reason = "CONNECTION_LOST"


class DeadlineExceeded(DraftpoolError):
    """The caller's deadline passed."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unsupported(DraftpoolError):
    """The contract knows it, this server does not do it."""

    status = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNSUPPORTED"


class ModelNotServable(DraftpoolError):
    """The operator asked for a model, tokenizer or device that this service cannot run; said at start."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_NOT_SERVABLE"


class InternalError(DraftpoolError):
    """A bug. The details are in the server's log, under the request id."""

    reason = "INTERNAL"


class BrokenReply(InternalError):
    """A service answered what is no reply, or none to what it was asked."""

    reason = "BROKEN_REPLY"
