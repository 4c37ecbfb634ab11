"""Replicas of the model services: which there are, which answer, and which one a request gets."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.errors import Unavailable
from draftpool.rpc.channel import open_channel
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, load_pb2, verifier_pb2_grpc

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Replica:
    """One address and what is known of it.

    Attributes:
        is_up: it has described itself and has not failed since.
        num_streams: sessions this orchestrator holds there.
        num_waiting: requests that waited for its model when it last replied.
    """

    address: str
    is_up: bool = False
    num_streams: int = 0
    num_waiting: int = 0
    channel: grpc.aio.Channel = field(init=False)
    _last_said: str = ""

    def __post_init__(self) -> None:
        self.channel = open_channel(self.address)

    def say_once(self, log: logging.Logger, message: str) -> None:
        """Log a warning unless it is the one logged last: replicas are visited every second."""
        if message != self._last_said:
            self._last_said = message
            log.warning("%s", message)

    def report_success(self) -> None:
        """A reply came."""

    def report_failure(self, reason: str) -> None:
        """An exchange failed: it is out until it has described itself again."""
        if self.is_up:
            log.warning("%s is out: %s", self.address, reason)
        self.is_up = False

    def report_load(self, load: load_pb2.ReplicaLoad) -> None:
        """What a reply said."""
        self.num_waiting = load.num_waiting

    async def probe(self, timeout_s: float) -> bool:
        """Whether it answers within the time that it is serving; one without a health service has answered too."""
        try:
            stub = health_pb2_grpc.HealthStub(self.channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    @property
    def load(self) -> int:
        """What is waiting there is only known while sessions of ours report it."""
        return self.num_streams + (self.num_waiting if self.num_streams else 0)


@dataclass(eq=False)
class VerifierReplica(Replica):
    """A replica of some target's pool."""

    stub: verifier_pb2_grpc.VerifierStub = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stub = verifier_pb2_grpc.VerifierStub(self.channel)


@dataclass(eq=False)
class DrafterReplica(Replica):
    """A replica of the drafter pool.

    Attributes:
        shared_vocabulary: the share of each registered vocabulary that it can propose, by fingerprint.
        registering: held while it is taught one.
    """

    description: drafter_pb2.DescribeDrafterReply | None = None
    shared_vocabulary: dict[str, float] = field(default_factory=dict)
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)
    stub: drafter_pb2_grpc.DrafterStub = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stub = drafter_pb2_grpc.DrafterStub(self.channel)


R = TypeVar("R", bound=Replica)


def choose_replica(replicas: Sequence[R], *, avoid: Collection[Replica] = frozenset()) -> R:
    """Power of two choices: the less loaded of two random replicas that are up.

    Args:
        avoid: taken only where no other is up.

    Raises:
        Unavailable: none is up.
    """
    up = [replica for replica in replicas if replica.is_up]
    if not up:
        raise Unavailable("no replica answers", retry_after_s=1.0)
    candidates = [replica for replica in up if replica not in avoid] or up
    return min(random.sample(candidates, min(2, len(candidates))), key=lambda replica: replica.load)
