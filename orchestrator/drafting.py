"""A request's drafts: from whichever drafter answers, and none when none does. Never an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import (
    ContextLost,
    DraftpoolError,
    MalformedTree,
    NoCapacity,
    Unavailable,
    UnknownVocabulary,
)
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from draftpool.tree_policy import TreePolicy
from draftpool.v1 import drafter_pb2
from draftpool.wire import policy_to_wire, sampling_to_wire, tree_from_wire
from orchestrator.fleet import Fleet, Target
from orchestrator.model_stream import ModelStream
from orchestrator.replicas import DrafterReplica, choose_replica

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 3
_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 16.0


@dataclass(frozen=True)
class Draft:
    """A tree and what it took.

    Attributes:
        draft_us: queueing and drafting, as the drafter reports them.
        elapsed_us: until the reply was here.
        opened_session: whether the drafter had to take in the whole context first.
        policy: what the drafter was asked for in the end; None where it was not asked.
    """

    tree: DraftTree = EMPTY_TREE
    draft_us: int = 0
    elapsed_us: int = 0
    opened_session: bool = False
    policy: TreePolicy | None = None


class DraftSource:
    """The drafter's side of one request."""

    def __init__(self, fleet: Fleet, target: Target, params: SamplingParams, *, timeout_s: float) -> None:
        self._fleet = fleet
        self._target = target
        self._params = params
        self._timeout_s = timeout_s
        self._drafter: DrafterReplica | None = None
        self._stream: ModelStream[drafter_pb2.DraftReply] | None = None
        self._paused_until = 0.0
        self._pause_s = _FIRST_PAUSE_S

    @property
    def _max_tree_nodes(self) -> int:
        """What the drafter in use and the target's verifiers both take."""
        described = self._drafter.description if self._drafter is not None else None
        limit = self._target.description.max_tree_nodes
        return limit if described is None else min(limit, described.max_tree_nodes)

    @property
    def is_available(self) -> bool:
        """Whether asking for a draft makes sense now."""
        return time.monotonic() >= self._paused_until and any(drafter.is_up for drafter in self._fleet.drafters)

    async def draft(self, token_ids: Sequence[int], shape: TreePolicy) -> Draft:
        """A tree after `token_ids`, of at most that shape; the empty tree where no drafter delivers.

        The drafter is not asked for the empty shape; it catches up with what was committed meanwhile when it is
        asked next, because every message carries all tokens since the last one.
        """
        if shape.depth == 0 or not self.is_available:
            return Draft()
        for _ in range(_MAX_ATTEMPTS):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._ask(token_ids, shape)
            except (UnknownVocabulary, ContextLost) as error:  # restarted or evicted: open again at once
                self._drop(error)
            except (Unavailable, NoCapacity) as error:  # another one may do
                self._lose(error)
            except TimeoutError:
                self._lose(Unavailable(f"no draft within {self._timeout_s:g} s"))
                break
            except DraftpoolError as error:
                self._drop(error)
                break
            if not any(drafter.is_up for drafter in self._fleet.drafters):
                break
        self._pause()
        return Draft()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    async def _ask(self, token_ids: Sequence[int], shape: TreePolicy) -> Draft:
        stream = self._stream or await self._open()
        is_new = stream.is_new
        shape = shape.within(self._max_tree_nodes)
        message = drafter_pb2.DraftRequest(committed_token_ids=stream.unsent(token_ids), policy=policy_to_wire(shape))
        if is_new:
            message.session.vocabulary_fingerprint = self._target.vocabulary.fingerprint
            message.session.sampling.CopyFrom(sampling_to_wire(self._params))
        reply, elapsed_us = await stream.exchange(message, num_tokens=len(token_ids))
        tree = tree_from_wire(reply.tree)
        self._check(tree, shape)
        self._pause_s = _FIRST_PAUSE_S
        busy_us = min(elapsed_us, reply.timings.queue_us + reply.timings.draft_us)  # clocks differ
        return Draft(tree, busy_us, elapsed_us, is_new, shape)

    def _check(self, tree: DraftTree, shape: TreePolicy) -> None:
        """A drafter that draws what was not asked for must not spoil the request. Raises MalformedTree."""
        if tree.num_nodes > shape.num_nodes or tree.depth > shape.depth:
            raise MalformedTree(f"asked for {shape}, drew {tree.num_nodes} nodes of depth {tree.depth}")
        if max(tree.token_ids, default=0) >= len(self._target.vocabulary):
            raise MalformedTree(f"drew token {max(tree.token_ids)}, which {self._target.name} does not have")

    async def _open(self) -> ModelStream[drafter_pb2.DraftReply]:
        self._drafter = choose_replica(self._fleet.drafters)
        if self._target.vocabulary.fingerprint not in self._drafter.shared_vocabulary:
            await self._fleet.register(self._drafter, self._target)
        self._stream = ModelStream(self._drafter, self._drafter.stub.Draft, timeout_s=None)
        return self._stream

    def _drop(self, error: DraftpoolError) -> None:
        log.warning("draft lost: %s", error.message)
        if self._drafter is not None and isinstance(error, UnknownVocabulary):
            self._drafter.shared_vocabulary.pop(self._target.vocabulary.fingerprint, None)
        if self._stream is not None:
            self._stream.close()
        self._stream = self._drafter = None

    def _lose(self, error: DraftpoolError) -> None:
        """Drop the stream; a replica that is not merely full is out until it has described itself again."""
        if self._drafter is not None and not isinstance(error, NoCapacity):
            self._drafter.is_up = False
        self._drop(error)

    def _pause(self) -> None:
        """Decode plainly for a while, longer after each failure."""
        self._paused_until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
