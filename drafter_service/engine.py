"""The drafter's engine: one turn reads some of what waits and grows all trees by a level together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from drafter_service.expand import grow
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.schedule import share_reading
from drafter_service.session import Session
from drafter_service.state_pool import StatePool
from draftpool.engine_thread import Job
from draftpool.errors import BadParameter, DraftpoolError
from draftpool.tree import NO_DRAFT, DraftTree
from draftpool.tree_policy import TreePolicy


@dataclass(frozen=True)
class DraftResult:
    """What a job is answered with.

    Attributes:
        tree: in the target's token ids; smaller than asked where the pool or the vocabulary had no more.
        queue_us: from the job's creation until the engine took it up.
        draft_us: from then until the tree was ready, batch mates included.
        supports: for the rejection rule, what the children of the root and of every node were drawn from: (target id,
            probability).
        num_steps: batched steps that the tree took part in.
    """

    tree: DraftTree
    queue_us: int
    draft_us: int
    num_steps: int
    supports: Sequence[Sequence[tuple[int, float]]] = ()


class DraftJob(Job[DraftResult]):
    """Advance one session by committed tokens, then draft."""

    def __init__(self, session: Session, committed_token_ids: Sequence[int], policy: TreePolicy = NO_DRAFT) -> None:
        super().__init__()
        self.session = session
        self.committed_token_ids = committed_token_ids
        self.policy = policy
        self.created_ns = time.perf_counter_ns()
        self.started_ns: int | None = None
        self.has_begun = False


class DrafterEngine:
    """Owns the model's pool; used by one thread, see `draftpool.engine_thread`.

    A turn is one batched step for everybody: sessions that come while others' trees are half grown join at the next
    level, and texts are read in chunks between levels.
    """

    def __init__(
        self, model: RecurrentModel, pool: StatePool, *, max_tree_nodes: int, prefill_chunk_tokens: int
    ) -> None:
        self._model = model
        self._max_tree_nodes = max_tree_nodes
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self.pool = pool

    @torch.inference_mode()
    def turn(self, jobs: Sequence[DraftJob]) -> bool:
        """Bring every job one level, or one chunk of its text, closer to its answer."""
        self._start([job for job in jobs if job.started_ns is None])
        started = [job for job in jobs if job.is_open]
        self._read(started)
        ready = [job for job in started if job.session.num_to_read == 0]
        for job in ready:
            if not job.has_begun:
                job.session.begin_tree(job.policy)
                job.has_begun = True
        grow(self._model, self.pool, [job.session for job in ready])
        for job in ready:
            if job.session.is_grown:
                job.answer(_draft(job))
                job.session.settle(self._model)
        return True

    def close_session(self, session: Session) -> None:
        """Free all that a session holds; safe to repeat."""
        session.close(self.pool)

    def _start(self, jobs: Sequence[DraftJob]) -> None:
        """Check each new job and move its session along; a job that fails here has cost its batch nothing."""
        for job in jobs:
            job.started_ns = time.perf_counter_ns()
            try:
                self._check(job)
                self._advance(job)
            except DraftpoolError as error:
                job.fail(error)

    def _check(self, job: DraftJob) -> None:
        # Every level has a node, so depth is the cheap bound: the exact count of an absurdly deep shape is not.
        if job.policy.depth > self._max_tree_nodes or job.policy.num_nodes > self._max_tree_nodes:
            raise BadParameter(
                f"the tree asked for is too large; this drafter draws at most {self._max_tree_nodes} nodes"
            )
        job.session.check(job.committed_token_ids, job.policy)

    def _advance(self, job: DraftJob) -> None:
        if job.session.is_open:
            job.session.advance(job.committed_token_ids, self.pool)
        else:
            for slot in job.session.open(job.committed_token_ids, self.pool):
                self._model.reset(slot)

    def _read(self, jobs: Sequence[DraftJob]) -> None:
        """Feed the sessions' texts, all but each one's last token."""
        shares = share_reading([job.session.num_to_read for job in jobs], self._prefill_chunk_tokens)
        for job, num_tokens in zip(jobs, shares, strict=True):
            job.session.read(self._model, num_tokens)


def _draft(job: DraftJob) -> DraftResult:
    started_ns = job.started_ns or job.created_ns
    growth = job.session.growth
    return DraftResult(
        tree=growth.tree(),
        queue_us=(started_ns - job.created_ns) // 1000,
        draft_us=(time.perf_counter_ns() - started_ns) // 1000,
        num_steps=growth.num_steps,
        supports=growth.supports() if job.session.is_drawn else (),
    )
