"""A request's drafts: from whichever drafter answers, and none when none does. Never an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import ContextLost, DeadlineExceeded, DraftpoolError, NoCapacity, UnknownVocabulary
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree, TreeShape
from draftpool.v1 import drafter_pb2
from draftpool.wire import sampling_to_wire, shape_to_wire, tree_from_wire
from orchestrator.fleet import Fleet, Target
from orchestrator.model_stream import ModelStream
from orchestrator.replicas import DrafterReplica, choose_replica

log = logging.getLogger(__name__)

_PAUSE_AFTER_FAILURE_S = 1.0


@dataclass(frozen=True)
class Draft:
    """A tree and what it took.

    Attributes:
        draft_us: queueing and drafting, as the drafter reports them.
        elapsed_us: until the reply was here.
    """

    tree: DraftTree = EMPTY_TREE
    draft_us: int = 0
    elapsed_us: int = 0


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

    @property
    def is_available(self) -> bool:
        """Whether asking for a draft makes sense now."""
        return time.monotonic() >= self._paused_until and any(drafter.is_up for drafter in self._fleet.drafters)

    async def draft(self, token_ids: Sequence[int], shape: TreeShape) -> Draft:
        """A tree after `token_ids`, of at most that shape; the empty tree where no drafter delivers.

        The drafter is not asked for the empty shape; it catches up with what was committed meanwhile when it is
        asked next, because every message carries all tokens since the last one.
        """
        if shape.depth == 0 or not self.is_available:
            return Draft()
        for _ in range(2):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._ask(token_ids, shape)
            except (UnknownVocabulary, ContextLost) as error:  # restarted or evicted: open again at once
                self._drop(error)
            except TimeoutError:
                self._give_up(DeadlineExceeded(f"no draft within {self._timeout_s:g} s"))
                break
            except DraftpoolError as error:
                self._give_up(error)
                break
        return Draft()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    async def _ask(self, token_ids: Sequence[int], shape: TreeShape) -> Draft:
        stream = self._stream or await self._open()
        message = drafter_pb2.DraftRequest(committed_token_ids=stream.unsent(token_ids), policy=shape_to_wire(shape))
        if stream.is_new:
            message.session.vocabulary_fingerprint = self._target.vocabulary.fingerprint
            message.session.sampling.CopyFrom(sampling_to_wire(self._params))
        reply, elapsed_us = await stream.exchange(message, num_tokens=len(token_ids))
        busy_us = reply.timings.queue_us + reply.timings.draft_us
        return Draft(tree_from_wire(reply.tree), busy_us, elapsed_us)

    async def _open(self) -> ModelStream[drafter_pb2.DraftReply]:
        self._drafter = choose_replica(self._fleet.drafters)
        if self._target.vocabulary.fingerprint not in self._drafter.shared_vocabulary:
            await self._fleet.register(self._drafter, self._target)
        self._stream = ModelStream(self._drafter, self._drafter.stub.Draft, timeout_s=None)
        return self._stream

    def _drop(self, error: DraftpoolError) -> None:
        if self._drafter is not None and isinstance(error, UnknownVocabulary):
            self._drafter.shared_vocabulary.pop(self._target.vocabulary.fingerprint, None)
        if self._stream is not None:
            self._stream.close()
        self._stream = self._drafter = None

    def _give_up(self, error: DraftpoolError) -> None:
        """Decode plainly for a while; a replica that is not merely full is out until it answers again."""
        log.warning("decoding without drafts for %g s: %s", _PAUSE_AFTER_FAILURE_S, error.message)
        if self._drafter is not None and not isinstance(error, NoCapacity):
            self._drafter.is_up = False
        self._drop(error)
        self._paused_until = time.monotonic() + _PAUSE_AFTER_FAILURE_S
