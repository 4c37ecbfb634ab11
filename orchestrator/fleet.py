"""Everything this orchestrator can send work to, kept current in the background.

Replicas are found by asking each address what it is. One that fails a request is out until it has described
itself again. Targets come and go with their verifiers; nothing else is configured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from tokenizers import Tokenizer

from draftpool.errors import DraftpoolError, UnknownModel
from draftpool.rpc.status import from_rpc_error
from draftpool.v1 import drafter_pb2, verifier_pb2
from draftpool.vocabulary import Vocabulary
from draftpool.wire import vocabulary_from_wire, vocabulary_to_wire
from orchestrator.replicas import DrafterReplica, R, VerifierReplica

log = logging.getLogger(__name__)

_DESCRIBE_TIMEOUT_S = 10.0


@dataclass
class Target:
    """A target model and the replicas that serve it."""

    description: verifier_pb2.DescribeVerifierReply
    vocabulary: Vocabulary
    tokenizer: Tokenizer
    replicas: list[VerifierReplica] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.description.model

    @property
    def is_up(self) -> bool:
        return any(replica.is_up for replica in self.replicas)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt, with the special tokens that the tokenizer puts around it."""
        return tuple(self.tokenizer.encode(text).ids)


class Fleet:
    """The targets by name, and the drafter pool."""

    def __init__(self, *, verifiers: Sequence[str], drafters: Sequence[str], refresh_s: float) -> None:
        self._verifiers = [VerifierReplica(address) for address in dict.fromkeys(verifiers)]
        self.drafters = [DrafterReplica(address) for address in dict.fromkeys(drafters)]
        self.targets: dict[str, Target] = {}
        self._refresh_s = refresh_s

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Visit every replica once, then keep visiting until the context ends; channels are closed with it."""
        await asyncio.gather(*map(self._visit_verifier, self._verifiers))
        await asyncio.gather(*map(self._visit_drafter, self.drafters))
        visits = [
            *(asyncio.create_task(self._keep_visiting(self._visit_verifier, replica)) for replica in self._verifiers),
            *(asyncio.create_task(self._keep_visiting(self._visit_drafter, replica)) for replica in self.drafters),
        ]
        try:
            yield
        finally:
            for visit in visits:
                visit.cancel()
            for replica in [*self._verifiers, *self.drafters]:
                await replica.channel.close()

    def target(self, name: str) -> Target:
        """Raises UnknownModel, naming those that are served."""
        if name not in self.targets:
            served = ", ".join(sorted(self.targets)) or "none yet"
            raise UnknownModel(f"no target is called {name!r}; served here: {served}")
        return self.targets[name]

    def shared_vocabulary(self, target: Target) -> float | None:
        """The share of the target's tokens that some drafter can propose; None where no drafter is up."""
        shares = [d.shared_vocabulary.get(target.vocabulary.fingerprint) for d in self.drafters if d.is_up]
        return max((share for share in shares if share is not None), default=None)

    async def register(self, drafter: DrafterReplica, target: Target) -> None:
        """Teach a drafter a target's vocabulary. Raises what the drafter answers."""
        request = drafter_pb2.RegisterVocabularyRequest(vocabulary=vocabulary_to_wire(target.vocabulary))
        try:
            reply = await drafter.stub.RegisterVocabulary(request, timeout=_DESCRIBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        share = reply.num_shared_tokens / max(1, reply.num_target_tokens)
        drafter.shared_vocabulary[target.vocabulary.fingerprint] = share

    async def _keep_visiting(self, visit: Callable[[R], Awaitable[None]], replica: R) -> None:
        """A task of its own for each replica: one that hangs delays no other."""
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await visit(replica)
            except Exception:
                log.exception("a bug while visiting %s", replica.address)

    async def _visit_verifier(self, replica: VerifierReplica) -> None:
        if not replica.is_up:
            await self._welcome_verifier(replica)

    async def _visit_drafter(self, replica: DrafterReplica) -> None:
        """Welcome it if it was not up, and teach it the targets it does not know, ahead of the first request."""
        if not replica.is_up:
            await self._welcome_drafter(replica)
        for target in list(self.targets.values()):
            if replica.is_up and target.vocabulary.fingerprint not in replica.shared_vocabulary:
                try:
                    await self.register(replica, target)
                except DraftpoolError as error:
                    log.warning("drafter %s, vocabulary of %s: %s", replica.address, target.name, error.message)

    async def _welcome_verifier(self, replica: VerifierReplica) -> None:
        try:
            description = await replica.stub.Describe(
                verifier_pb2.DescribeVerifierRequest(), timeout=_DESCRIBE_TIMEOUT_S
            )
            self._enlist(replica, description)
        except grpc.aio.AioRpcError as error:
            log.debug("verifier %s: %s", replica.address, error.details())
        except DraftpoolError as error:
            log.error("verifier %s cannot be used: %s", replica.address, error.message)

    def _enlist(self, replica: VerifierReplica, description: verifier_pb2.DescribeVerifierReply) -> None:
        """Put a replica into its target's pool; replicas of one name must agree on the vocabulary."""
        target = self.targets.get(description.model)
        if target is None or not target.is_up:
            tokenizer = Tokenizer.from_str(description.tokenizer_json.decode())
            target = Target(description, vocabulary_from_wire(description.vocabulary), tokenizer)
            self.targets[description.model] = target
        elif target.vocabulary.fingerprint != description.vocabulary.fingerprint:
            raise UnknownModel(f"it serves another vocabulary under the name {description.model!r}")
        target.replicas = [known for known in target.replicas if known is not replica] + [replica]
        replica.description, replica.is_up = description, True
        log.info("verifier %s serves %s", replica.address, description.model)

    async def _welcome_drafter(self, replica: DrafterReplica) -> None:
        try:
            replica.description = await replica.stub.Describe(
                drafter_pb2.DescribeDrafterRequest(), timeout=_DESCRIBE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            log.debug("drafter %s: %s", replica.address, error.details())
            return
        replica.shared_vocabulary.clear()  # it may have restarted
        replica.is_up = True
        log.info("drafter %s runs %s", replica.address, replica.description.model)
