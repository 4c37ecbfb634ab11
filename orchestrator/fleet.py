"""Everything this orchestrator can send work to, kept current in the background.

Replicas are found by asking each address what it is. Targets come and go with their verifiers; nothing else is
configured.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial

import grpc

from draftpool.errors import DraftpoolError, UnknownModel
from draftpool.rpc.channel import open_channel
from draftpool.rpc.status import from_rpc_error
from draftpool.v1 import drafter_pb2, verifier_pb2
from draftpool.wire import vocabulary_to_wire
from orchestrator.discovery import Discovery
from orchestrator.ejection import EjectionPolicy, may_return
from orchestrator.replicas import DrafterReplica, Replica, VerifierReplica
from orchestrator.roster import Roster
from orchestrator.targets import Target, described_target

__all__ = ["Fleet", "Target"]

log = logging.getLogger(__name__)

_DESCRIBE_TIMEOUT_S = 10.0


class Fleet:
    """The targets by name, and the drafter pool."""

    def __init__(
        self,
        *,
        verifiers: Sequence[Discovery],
        drafters: Sequence[Discovery],
        refresh_s: float,
        ejection: EjectionPolicy,
        dial: Callable[[str], grpc.aio.Channel] = open_channel,
    ) -> None:
        """`dial` opens the channels to replicas."""
        self.targets: dict[str, Target] = {}
        self._changed = asyncio.Event()  # another one after each change
        self._verifiers = Roster(
            verifiers,
            replica_at=partial(VerifierReplica, ejection=ejection, dial=dial),
            visit=self._visit_verifier,
            let_go=self._let_verifier_go,
            refresh_s=refresh_s,
        )
        self._drafters = Roster(
            drafters,
            replica_at=partial(DrafterReplica, ejection=ejection, dial=dial),
            visit=self._visit_drafter,
            let_go=lambda _: self._tell_of_change(),
            refresh_s=refresh_s,
        )

    @property
    def verifiers(self) -> list[VerifierReplica]:
        """At all addresses, whatever they serve and whether they are up."""
        return self._verifiers.members

    @property
    def drafters(self) -> list[DrafterReplica]:
        """At all addresses, whether they are up or not."""
        return self._drafters.members

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Try every replica once, then keep watching until the context ends; channels are closed with it."""
        async with self._verifiers.kept(), self._drafters.kept():  # drafters are taught the targets found before
            yield

    def target(self, name: str, *, others: Collection[str] = ()) -> Target:
        """Raises UnknownModel, naming those that are served, and `others` that would be."""
        if name not in self.targets:
            served = ", ".join(sorted({*self.targets, *others})) or "none yet"
            raise UnknownModel(f"no target is called {name!r}; served here: {served}")
        return self.targets[name]

    @property
    def drafter_models(self) -> str:
        """What the drafters that are up run, and what the bandit therefore learns about."""
        models = {drafter.description.model for drafter in self.drafters if drafter.is_up and drafter.description}
        return "+".join(sorted(models)) or "none"

    @property
    def max_draft_nodes(self) -> int:
        """The largest tree that every drafter draws, of those that are up; 0 where none is."""
        limits = [d.description.max_tree_nodes for d in self.drafters if d.is_up and d.description]
        return min(limits, default=0)

    async def until_up(self, name: str) -> Target:
        """Wait until a target has a replica that is up, be it known yet or not."""
        while not ((target := self.targets.get(name)) is not None and target.is_up):
            await self.changed()
        return target

    async def changed(self) -> None:
        """Wait until another replica has come up, or a drafter has left."""
        await self._changed.wait()

    def _tell_of_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def shared_vocabulary(self, target: Target) -> float | None:
        """The share of the target's tokens that some drafter can propose; None where no drafter is up."""
        shares = [d.shared_vocabulary.get(target.vocabulary.fingerprint) for d in self.drafters if d.is_up]
        return max((share for share in shares if share is not None), default=None)

    async def register(self, drafter: DrafterReplica, target: Target) -> None:
        """Teach a drafter a target's vocabulary. Raises what the drafter answers."""
        fingerprint = target.vocabulary.fingerprint
        async with drafter.registering:  # many requests may find out at once that it has forgotten
            if fingerprint in drafter.shared_vocabulary:
                return
            request = drafter_pb2.RegisterVocabularyRequest(vocabulary=vocabulary_to_wire(target.vocabulary))
            try:
                reply = await drafter.stub.RegisterVocabulary(request, timeout=_DESCRIBE_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            drafter.shared_vocabulary[fingerprint] = reply.num_shared_tokens / max(1, reply.num_target_tokens)

    async def _visit_verifier(self, replica: VerifierReplica) -> None:
        serving = [target.replicas for target in self.targets.values() if replica in target.replicas]
        if not replica.is_up and _may_return(replica, serving[0] if serving else [replica]):
            await self._welcome_verifier(replica)

    async def _visit_drafter(self, replica: DrafterReplica) -> None:
        """Welcome it if it was not up, and teach it the targets it does not know, ahead of the first request."""
        if not replica.is_up and _may_return(replica, self.drafters):
            await self._welcome_drafter(replica)
        for target in list(self.targets.values()):
            if replica.is_up and target.vocabulary.fingerprint not in replica.shared_vocabulary:
                try:
                    await self.register(replica, target)
                except DraftpoolError as error:
                    replica.say_once(f"drafter {replica.address}, vocabulary of {target.name}: {error.message}")

    async def _welcome_verifier(self, replica: VerifierReplica) -> None:
        era = replica.era
        request = verifier_pb2.DescribeVerifierRequest()
        try:
            description = await replica.stub.Describe(request, timeout=_DESCRIBE_TIMEOUT_S)
            described = await asyncio.to_thread(described_target, description)  # a big tokenizer takes a second to read
            if replica.era is era:
                self._enlist(replica, described)
        except grpc.aio.AioRpcError as error:
            _log_no_answer("verifier", replica, error)
        except DraftpoolError as error:
            replica.say_once(f"verifier {replica.address} cannot be used: {error.message}")

    def _enlist(self, replica: VerifierReplica, described: Target) -> None:
        """Put a replica into its target's pool, and out of any other; replicas of one name must be alike."""
        self._let_verifier_go(replica)
        target = self.targets.setdefault(described.name, described)  # running requests hold the known one
        if target.identity != described.identity:
            if target.is_up:
                raise UnknownModel(
                    f"it serves {described.name!r} otherwise than the replicas already known, {described.identity} and "
                    f"not {target.identity}"
                )
            target.replicas.clear()  # running requests still hold it, and must not meet its successor
            target = self.targets[described.name] = described
        target.replicas.append(replica)
        replica.welcome(described.description.load)
        self._tell_of_change()
        log.info("verifier %s serves %s", replica.address, target.name)

    def _let_verifier_go(self, replica: VerifierReplica) -> None:
        for target in self.targets.values():
            target.replicas = [known for known in target.replicas if known is not replica]

    async def _welcome_drafter(self, replica: DrafterReplica) -> None:
        era = replica.era
        request = drafter_pb2.DescribeDrafterRequest()
        try:
            description = await replica.stub.Describe(request, timeout=_DESCRIBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            _log_no_answer("drafter", replica, error)
            return
        if replica.era is era:
            replica.description = description
            replica.shared_vocabulary.clear()  # it may have restarted
            replica.welcome(description.load)
            self._tell_of_change()
            log.info("drafter %s runs %s", replica.address, description.model)


def _may_return(replica: Replica, pool: Sequence[Replica]) -> bool:
    """Whether a replica that is out may be asked to describe itself, as far as its failures are concerned."""
    num_others_up = sum(other.is_up for other in pool)
    records = [other.failures for other in pool]
    return may_return(replica.failures, records, num_others_up=num_others_up, now_s=time.monotonic())


def _log_no_answer(role: str, replica: Replica, error: grpc.aio.AioRpcError) -> None:
    """Not being there yet is normal; any other answer is something an operator should see."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        log.debug("%s %s: %s", role, replica.address, error.details())
    else:
        replica.say_once(f"{replica.address} is no {role}: {error.code().name}, {error.details()}")
