"""A request's session with one drafter, whose replies may come later than the round that asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import BrokenReply, MalformedTree
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from draftpool.tree_policy import TreePolicy
from draftpool.v1 import drafter_pb2, sampling_pb2
from draftpool.wire import policy_to_wire, sampling_to_wire, tree_from_wire
from orchestrator.fleet import Fleet, Target
from orchestrator.liveness import StallPolicy
from orchestrator.model_stream import ModelStream
from orchestrator.patience import DraftPatience
from orchestrator.replicas import DrafterReplica
from orchestrator.sparse_laws import SparseLaws, draft_laws


@dataclass(frozen=True)
class Drawn:
    """A drafter's reply.

    Attributes:
        num_tokens: length of the token list that the tree grows from.
        draft_us: queueing and drafting, as the drafter reports them.
        elapsed_us: from the message to its reply.
        opened_session: whether the drafter had to take in the whole context first.
        laws: for the rejection rule, what the nodes were drawn from; None where none were.
    """

    tree: DraftTree
    num_tokens: int
    draft_us: int
    elapsed_us: int
    opened_session: bool
    laws: SparseLaws | None = None


class DraftSession:
    """A stream to one drafter with at most one exchange under way, which goes on when nobody waits for it.

    A stream has one reply for each request, in order: until a late one is here, nothing else can be asked.
    """

    def __init__(
        self,
        fleet: Fleet,
        target: Target,
        drafter: DrafterReplica,
        params: SamplingParams,
        patience: DraftPatience,
        *,
        is_rejection: bool,
    ) -> None:
        self.drafter = drafter
        self._fleet = fleet
        self._target = target
        self._params = params
        self._patience = patience
        self._is_rejection = is_rejection
        self._stream: ModelStream[drafter_pb2.DraftReply] | None = None
        self._exchange: asyncio.Task[Drawn] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether the drafter has not taken in the context yet."""
        return self._stream is None or self._stream.is_new

    @property
    def has_exchange(self) -> bool:
        """Whether there is a reply to be taken, or to be waited for."""
        return self._exchange is not None

    @property
    def is_busy(self) -> bool:
        """Whether the drafter owes a reply."""
        return self._exchange is not None and not self._exchange.done()

    def ask(self, token_ids: Sequence[int], policy: TreePolicy) -> None:
        """Ask for a tree after `token_ids`, a list that may grow meanwhile. The last reply must have been taken."""
        self._exchange = asyncio.create_task(self._draw(token_ids, len(token_ids), policy))

    async def waited(self, wait_s: float) -> bool:
        """Wait for the reply, at most so long; whether it is there."""
        if self.is_busy and wait_s > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            alarm = loop.call_later(wait_s, _wake, self._waiter)
            try:
                await self._waiter  # by hand, because asyncio.wait takes the loop round twice more
            finally:
                alarm.cancel()
                self._waiter = None
        return not self.is_busy

    def take(self) -> Drawn:
        """The reply, once it is there, and only once.

        Raises:
            DraftpoolError: what came instead of one; the session is of no more use.
        """
        if self._exchange is None:
            raise RuntimeError("nothing was asked")
        exchange, self._exchange = self._exchange, None
        return exchange.result()

    def close(self) -> None:
        """End the session and whatever is under way; the drafter frees it at once."""
        if self._exchange is not None:
            self._exchange.cancel()  # of one that has failed already, this says that nobody will look at the error
        if self._stream is not None:
            self._stream.close()

    async def _draw(self, token_ids: Sequence[int], num_tokens: int, policy: TreePolicy) -> Drawn:
        try:
            stream = self._stream or await self._open()
            is_new = stream.is_new
            message = self._message(stream, token_ids[stream.num_sent : num_tokens], policy)
            reply, elapsed_us = await stream.exchange(message, num_tokens=num_tokens)
            tree = self._tree(reply, policy)
            busy_us = min(elapsed_us, reply.timings.queue_us + reply.timings.draft_us)  # clocks differ
            return Drawn(tree, num_tokens, busy_us, elapsed_us, is_new, self._laws(reply, tree))
        finally:
            if self._waiter is not None:
                _wake(self._waiter)

    async def _open(self) -> ModelStream[drafter_pb2.DraftReply]:
        if self._target.vocabulary.fingerprint not in self.drafter.shared_vocabulary:
            await self._fleet.register(self.drafter, self._target)
        self._stream = ModelStream(
            self.drafter,
            self.drafter.stub.Draft,
            timeout_s=None,
            stall=StallPolicy(self._patience.stall_s, self._patience.timeout_s),
        )
        return self._stream

    def _message(
        self, stream: ModelStream[drafter_pb2.DraftReply], unsent: Sequence[int], policy: TreePolicy
    ) -> drafter_pb2.DraftRequest:
        message = drafter_pb2.DraftRequest(committed_token_ids=unsent, policy=policy_to_wire(policy))
        if stream.is_new:
            message.session.vocabulary_fingerprint = self._target.vocabulary.fingerprint
            message.session.sampling.CopyFrom(sampling_to_wire(self._params))
            if self._is_rejection:
                message.session.acceptance_rule = sampling_pb2.ACCEPTANCE_RULE_REJECTION
        return message

    def _tree(self, reply: drafter_pb2.DraftReply, policy: TreePolicy) -> DraftTree:
        """A drafter that draws what was not asked for must not spoil the request. Raises BrokenReply."""
        try:
            tree = tree_from_wire(reply.tree)
        except MalformedTree as error:
            raise BrokenReply(f"{self.drafter.address} drew no tree: {error.message}") from None
        if tree.num_nodes > policy.num_nodes or tree.depth > policy.depth:
            raise BrokenReply(f"{self.drafter.address} drew {tree.num_nodes} nodes of depth {tree.depth} for {policy}")
        if max(tree.token_ids, default=0) >= len(self._target.vocabulary):
            raise BrokenReply(
                f"{self.drafter.address} drew token {max(tree.token_ids)}, which {self._target.name} does not have"
            )
        return tree

    def _laws(self, reply: drafter_pb2.DraftReply, tree: DraftTree) -> SparseLaws | None:
        """Raises BrokenReply."""
        if not self._is_rejection or tree.num_nodes == 0:
            return None
        try:
            return draft_laws(reply.draft_probs, tree, len(self._target.vocabulary))
        except MalformedTree as error:
            raise BrokenReply(f"{self.drafter.address} {error.message}") from None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
