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
from functools import cached_property
from itertools import chain

import grpc
from tokenizers import Tokenizer

from draftpool.errors import DraftpoolError, UnknownModel
from draftpool.rpc.status import from_rpc_error
from draftpool.v1 import drafter_pb2, verifier_pb2
from draftpool.vocabulary import Vocabulary
from draftpool.wire import vocabulary_from_wire, vocabulary_to_wire
from orchestrator.replicas import DrafterReplica, R, Replica, VerifierReplica

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

    @property
    def identity(self) -> tuple[str, str, str, int, int]:
        """What must be the same of all replicas, so that it does not matter which one a request gets."""
        told = self.description
        fingerprint = self.vocabulary.fingerprint
        return told.architecture, told.dtype, fingerprint, told.max_context_tokens, told.max_tree_nodes

    @cached_property
    def max_prompt_bytes(self) -> int:
        """No text beyond this can have few enough tokens, special ones written out among them."""
        added = (token.content.encode() for token in self.tokenizer.get_added_tokens_decoder().values())
        return self.description.max_context_tokens * max(map(len, chain(self.vocabulary.token_bytes, added)))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt, with the special tokens that the tokenizer puts around it.

        For long texts call it on a thread of its own; the batch call is the one that lets others run meanwhile.
        """
        return tuple(self.tokenizer.encode_batch([text])[0].ids)


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
        await asyncio.gather(*(_guarded(self._visit_verifier, replica) for replica in self._verifiers))
        await asyncio.gather(*(_guarded(self._visit_drafter, replica) for replica in self.drafters))
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

    async def _keep_visiting(self, visit: Callable[[R], Awaitable[None]], replica: R) -> None:
        """A task of its own for each replica: one that hangs delays no other."""
        while True:
            await asyncio.sleep(self._refresh_s)
            await _guarded(visit, replica)

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
                    replica.say_once(log, f"drafter {replica.address}, vocabulary of {target.name}: {error.message}")

    async def _welcome_verifier(self, replica: VerifierReplica) -> None:
        request = verifier_pb2.DescribeVerifierRequest()
        try:
            description = await replica.stub.Describe(request, timeout=_DESCRIBE_TIMEOUT_S)
            described = await asyncio.to_thread(_target, description)  # a big tokenizer takes a second to read
            self._enlist(replica, described)
        except grpc.aio.AioRpcError as error:
            _log_no_answer("verifier", replica, error)
        except DraftpoolError as error:
            replica.say_once(log, f"verifier {replica.address} cannot be used: {error.message}")

    def _enlist(self, replica: VerifierReplica, described: Target) -> None:
        """Put a replica into its target's pool, and out of any other; replicas of one name must be alike."""
        for target in self.targets.values():
            target.replicas = [known for known in target.replicas if known is not replica]
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
        replica.is_up = True
        log.info("verifier %s serves %s", replica.address, target.name)

    async def _welcome_drafter(self, replica: DrafterReplica) -> None:
        try:
            replica.description = await replica.stub.Describe(
                drafter_pb2.DescribeDrafterRequest(), timeout=_DESCRIBE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            _log_no_answer("drafter", replica, error)
            return
        replica.shared_vocabulary.clear()  # it may have restarted
        replica.is_up = True
        log.info("drafter %s runs %s", replica.address, replica.description.model)


async def _guarded(visit: Callable[[R], Awaitable[None]], replica: R) -> None:
    """A replica that answers something odd must not end the watching, nor the start."""
    try:
        await visit(replica)
    except Exception:
        log.exception("a bug while visiting %s", replica.address)


def _target(description: verifier_pb2.DescribeVerifierReply) -> Target:
    """Raises BadParameter for a vocabulary that does not fit its fingerprint, UnknownModel for a bad tokenizer."""
    try:
        tokenizer = Tokenizer.from_str(description.tokenizer_json.decode())
    except Exception as error:  # tokenizers raises nothing more precise
        raise UnknownModel(f"its tokenizer cannot be read: {error}") from error
    # A prompt that is too long is refused, never cut.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Target(description, vocabulary_from_wire(description.vocabulary), tokenizer)


def _log_no_answer(role: str, replica: Replica, error: grpc.aio.AioRpcError) -> None:
    """Not being there yet is normal; any other answer is something an operator should see."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        log.debug("%s %s: %s", role, replica.address, error.details())
    else:
        replica.say_once(log, f"{replica.address} is no {role}: {error.code().name}, {error.details()}")
