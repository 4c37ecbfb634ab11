"""A secure channel that outlives its certificate.

gRPC's credentials of a channel are what they were when it was made. So there is a channel for each state of the
files: a call takes the one of now, and one of before is closed when its last call has ended. A stream that is open
while certificates are replaced goes on, on the connection it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from draftpool.rpc.identity_files import Identity
from draftpool.watched_files import WatchedFiles

Connect = Callable[[Identity], grpc.aio.Channel]
MultiCallable = Callable[..., Any]


class RotatingChannel(grpc.aio.Channel):
    """To everyone a channel like any other; stubs are made on it once."""

    def __init__(self, files: WatchedFiles[Identity], connect: Connect) -> None:
        """
        Args:
            connect: opens a channel with the credentials that it is given.
        """
        self._files = files
        self._connect = connect
        self._now = _Era(files.current(), connect)
        self._before: set[_Era] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def num_channels(self) -> int:
        """The one of now, and those of before that still have calls."""
        return 1 + len(self._before)

    async def close(self, grace: float | None = None) -> None:
        self._is_closed = True
        await asyncio.gather(*(era.channel.close(grace) for era in (self._now, *self._before)), *self._closings)
        self._before.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._current().channel.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(lambda channel: channel.stream_stream(*args, **kwargs))

    def _method(self, on: Callable[[grpc.aio.Channel], MultiCallable]) -> MultiCallable:
        def invoke(*args: Any, **kwargs: Any) -> Any:
            era = self._current()
            call = on(era.channel)(*args, **kwargs)
            era.num_calls += 1
            call.add_done_callback(lambda _: self._end_call(era))
            return call

        return invoke

    def _current(self) -> _Era:
        """The era of the files as they are now."""
        identity = self._files.current()
        if identity is not self._now.identity and not self._is_closed:
            old, self._now = self._now, _Era(identity, self._connect)
            self._before.add(old)
            self._close_if_over(old)
        return self._now

    def _end_call(self, era: _Era) -> None:
        era.num_calls -= 1
        self._close_if_over(era)

    def _close_if_over(self, era: _Era) -> None:
        if era in self._before and era.num_calls == 0:
            self._before.discard(era)
            closing = asyncio.get_running_loop().create_task(era.channel.close())
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)


class _Era:
    """A channel, the identity that it was opened with, and the calls that it carries."""

    def __init__(self, identity: Identity, connect: Connect) -> None:
        self.identity = identity
        self.channel = connect(identity)
        self.num_calls = 0
