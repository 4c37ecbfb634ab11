"""Replicas of the model services: what is known of each, and which one a request gets."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.errors import Unavailable
from draftpool.rpc.channel import open_channel
from draftpool.v1 import drafter_pb2, drafter_pb2_grpc, load_pb2, verifier_pb2, verifier_pb2_grpc
from orchestrator.ejection import EjectionPolicy, FailureRecord
from orchestrator.routing import Load, LoadReport, estimated_load, power_of_two

log = logging.getLogger(__name__)


class Health(Enum):
    """What a replica says of itself, or how it keeps silent."""

    UNKNOWN = "not heard yet"
    SERVING = "serving"
    NOT_SERVING = "draining"
    UNTOLD = "it has no health service"
    LOST = "the connection broke"


class PoolState(StrEnum):
    """What a replica is to its pool.

    Only those up get sessions. One that drains finishes those it has; one that is ejected has failed and sits out;
    the others cannot be reached, or have not described themselves yet.
    """

    UP = "up"
    DRAINING = "draining"
    EJECTED = "ejected"
    DOWN = "down"


@dataclass(eq=False)
class Replica(ABC):
    """One address and what is known of it.

    It is up from when it has described itself until an exchange fails, it stops serving or it cannot be reached;
    then it has to describe itself again, for it may have restarted, and as another model.

    Attributes:
        dial: opens the channel.
        num_streams: sessions this orchestrator holds there.
        era: another one whenever it is put out; what it said or was sent in an earlier one need not hold any more.
        failures: what its exchanges said of it.
        is_retired: its address is gone; it finishes what it has.
        settled: it has been tried, with whatever result.
    """

    address: str
    ejection: EjectionPolicy = field(default_factory=EjectionPolicy)
    dial: Callable[[str], grpc.aio.Channel] = open_channel
    num_streams: int = 0
    health: Health = Health.UNKNOWN
    is_retired: bool = False
    channel: grpc.aio.Channel = field(init=False)
    failures: FailureRecord = field(init=False)
    era: object = field(default_factory=object, init=False)
    settled: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _is_welcome: bool = field(default=False, init=False)
    _was_draining: bool = field(default=False, init=False)
    _report: LoadReport | None = field(default=None, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _last_said: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.channel = self.dial(self.address)
        self.failures = FailureRecord(self.ejection)

    @property
    def is_up(self) -> bool:
        """Whether it takes new sessions."""
        return self._is_welcome

    @property
    def is_draining(self) -> bool:
        """It takes no new sessions and finishes those it has, if it can still be seen to have any."""
        return self._was_draining and (self.health is Health.NOT_SERVING or self.num_streams > 0)

    @property
    def may_be_visited(self) -> bool:
        """Whether asking it to describe itself makes sense."""
        return not self.is_retired and self.health in (Health.SERVING, Health.UNTOLD)

    @property
    def state(self) -> PoolState:
        if self.is_up:
            return PoolState.UP
        if self.is_draining:
            return PoolState.DRAINING
        if self.may_be_visited and self.failures.is_ejected(time.monotonic()):
            return PoolState.EJECTED
        return PoolState.DOWN

    @property
    def load(self) -> Load:
        return estimated_load(self._report, num_own_sessions=self.num_streams, now_s=time.monotonic())

    @property
    def last_report(self) -> LoadReport | None:
        """What it last said of its load; None before it said anything."""
        return self._report

    @abstractmethod
    async def ask_load(self, timeout_s: float) -> None:
        """Have it report its load, which replies do otherwise. Raises grpc.aio.AioRpcError."""

    def report_load(self, load: load_pb2.ReplicaLoad) -> None:
        """What a reply said."""
        self._report = LoadReport.from_wire(load, num_own_sessions=self.num_streams, at_s=time.monotonic())

    def report_success(self) -> None:
        """A reply came."""
        self.failures.succeed()

    def report_failure(self, reason: str) -> None:
        """An exchange failed: it is out at once, until its time out is over and it has described itself again.

        Many streams break when one replica does, so only the first failure counts; the others have not been tried
        since.
        """
        if self.is_up:
            self.failures.fail(time.monotonic())
            log.warning("%s is out after %d failures: %s", self.address, self.failures.num_failures, reason)
        self._put_out()

    def report_health(self, health: Health) -> None:
        """What its health service said, or that it could not be heard."""
        self.health = health
        if health in (Health.SERVING, Health.UNTOLD):
            self._was_draining = False
            self._changed.set()
            return
        self._was_draining = self._was_draining or health is Health.NOT_SERVING
        if self.is_up:
            log.info("%s is out: %s", self.address, health.value)
        self._put_out()

    def welcome(self, load: load_pb2.ReplicaLoad) -> None:
        """It has described itself."""
        self._is_welcome = True
        self.report_load(load)

    def retire(self) -> None:
        """Its address is gone: no new sessions, ever."""
        self.is_retired = True
        self._put_out()

    async def changed(self, timeout_s: float) -> None:
        """Wait until it is put out or heard of, at most so long, and no longer than its time out."""
        now_s = time.monotonic()
        ends_s = (self.failures.resting_until_s - now_s, self.failures.ejected_until_s - now_s)
        wait_s = min([timeout_s, *(end_s for end_s in ends_s if end_s > 0 and not self.is_up)])
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        self._changed.clear()

    async def probe(self, timeout_s: float) -> bool:
        """Whether it answers within the time, whatever it says: one that drains lives and finishes its sessions."""
        try:
            stub = health_pb2_grpc.HealthStub(self.channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED  # it has no health service, and has said so
        return True

    def say_once(self, message: str) -> None:
        """Log a warning unless it is the one logged last: replicas are visited every second."""
        if message != self._last_said:
            self._last_said = message
            log.warning("%s", message)

    def _put_out(self) -> None:
        self._is_welcome = False
        self.era = object()
        self._changed.set()


@dataclass(eq=False)
class VerifierReplica(Replica):
    """A replica of some target's pool."""

    stub: verifier_pb2_grpc.VerifierStub = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stub = verifier_pb2_grpc.VerifierStub(self.channel)

    async def ask_load(self, timeout_s: float) -> None:
        request = verifier_pb2.DescribeVerifierRequest(load_only=True)
        self.report_load((await self.stub.Describe(request, timeout=timeout_s)).load)


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

    async def ask_load(self, timeout_s: float) -> None:
        request = drafter_pb2.DescribeDrafterRequest(load_only=True)
        self.report_load((await self.stub.Describe(request, timeout=timeout_s)).load)


R = TypeVar("R", bound=Replica)


def choosable(replicas: Sequence[R], avoid: Collection[Replica]) -> list[R]:
    """Those that are up, without those to avoid unless there are no others.

    Raises:
        Unavailable: none is up.
    """
    up = [replica for replica in replicas if replica.is_up]
    if not up:
        raise Unavailable("no replica answers", retry_after_s=1.0)
    return [replica for replica in up if replica not in avoid] or up


def choose_replica(replicas: Sequence[R], *, avoid: Collection[Replica] = frozenset()) -> R:
    """Power of two choices among the replicas that are up.

    Args:
        avoid: taken only where no other is up.

    Raises:
        Unavailable: none is up.
    """
    return power_of_two(choosable(replicas, avoid), lambda replica: replica.load)
