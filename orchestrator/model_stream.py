"""One open stream to a model service: a session there, in the caller's hands.

The truth is the request's token list; a service holds a cache of it. A stream remembers how much of the list it
has sent, so every message carries just what is new, and a stream opened afresh starts with the whole list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc

from draftpool.errors import BrokenReply, DraftpoolError, Unavailable
from draftpool.rpc.interceptors import REQUEST_ID_KEY, request_id
from draftpool.rpc.status import from_rpc_error
from orchestrator.liveness import StallPolicy, StallWatch
from orchestrator.replicas import Replica

ReplyT = TypeVar("ReplyT")


class ModelStream(Generic[ReplyT]):
    """A bidirectional call in which every request gets one reply.

    Attributes:
        num_sent: how many of the request's tokens the service has been sent.
    """

    def __init__(
        self, replica: Replica, method: Callable[..., Any], *, timeout_s: float | None, stall: StallPolicy
    ) -> None:
        self.replica = replica
        self.num_sent = 0
        self._watch = StallWatch(replica, stall, self._cut)
        self._exchanging: asyncio.Task[Any] | None = None
        self._lost: Unavailable | None = None
        self._call = method(timeout=timeout_s, metadata=((REQUEST_ID_KEY, request_id.get()),))
        replica.num_streams += 1
        self._is_open = True

    @property
    def is_new(self) -> bool:
        """Whether the next message is the first one, which opens the session."""
        return self.num_sent == 0

    def unsent(self, token_ids: Sequence[int]) -> Sequence[int]:
        return token_ids[self.num_sent :]

    async def exchange(self, message: Any, *, num_tokens: int) -> tuple[ReplyT, int]:
        """Send one message and wait for its reply.

        Args:
            num_tokens: length of the token list that the service knows after this message.

        Returns:
            The reply and how long it took, in microseconds.

        Raises:
            DraftpoolError: what the service answered, or that it does not live; the stream is closed then.
        """
        start = time.perf_counter_ns()
        self._exchanging = asyncio.current_task()
        self._watch.begin()
        try:
            await self._call.write(message)
            reply = await self._call.read()
            if reply is grpc.aio.EOF:
                raise self._ended()
            if reply is None:  # grpc's way to say that the bytes could not be parsed
                raise BrokenReply(f"{self.replica.address} answered what is no reply")
        except grpc.aio.AioRpcError as error:
            self.close()
            raise self._error(error) from None
        except asyncio.InvalidStateError:  # written after the service had ended the call: it has said why
            self.close()
            raise await self._ending() from None
        except asyncio.CancelledError:
            self.close()
            if self._is_callers_wish():
                raise
            raise self._lost or self._ended() from None
        except BaseException:
            self.close()
            raise
        self._watch.end()
        self.num_sent = num_tokens
        self.replica.report_success()
        self.replica.report_load(reply.load)
        return reply, (time.perf_counter_ns() - start) // 1000

    def close(self) -> None:
        """End the session; the service frees it at once."""
        if self._is_open:
            self._is_open = False
            self._watch.close()
            self.replica.num_streams -= 1
            self._call.cancel()

    def _cut(self, error: Unavailable) -> None:
        """End the exchange under way: the service does not live. The call may not even be connected yet."""
        self._lost = error
        if self._exchanging is not None:
            self._exchanging.cancel()

    def _is_callers_wish(self) -> bool:
        """Whether an exchange was cancelled from outside, and not by its watch, nor because the channel was closed."""
        task = self._exchanging
        if task is None:
            return True
        return (task.cancelling() if self._lost is None else task.uncancel()) > 0

    def _error(self, error: grpc.aio.AioRpcError) -> DraftpoolError:
        """What the service said, or that the stream broke.

        Of one that ends while something is being written the transport says INTERNAL or UNKNOWN; a service never says
        so without details.
        """
        is_transports = error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        return self._ended() if is_transports and not error.trailing_metadata() else from_rpc_error(error)

    def _ended(self) -> Unavailable:
        return Unavailable(f"{self.replica.address} ended the session")

    async def _ending(self) -> DraftpoolError:
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK:
            return self._ended()
        trailing = await self._call.trailing_metadata()
        return self._error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details))
