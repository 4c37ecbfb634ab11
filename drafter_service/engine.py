"""The drafter's engine: one turn prefills what waits and grows all trees that are ready together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from drafter_service.expand import grow_trees
from drafter_service.recurrent_model import RecurrentModel
from drafter_service.session import Session
from drafter_service.state_pool import StatePool
from draftpool.engine_thread import Job
from draftpool.errors import BadParameter, DraftpoolError
from draftpool.tree import NO_DRAFT, DraftTree, TreeShape


@dataclass(frozen=True)
class DraftResult:
    """What a job is answered with.

    Attributes:
        tree: in the target's token ids; smaller than asked where the pool or the vocabulary had no more.
        queue_us: from the job's creation until the engine took it up.
        draft_us: from then until the tree was ready, batch mates included.
        num_steps: batched steps that the trees of its turn took.
    """

    tree: DraftTree
    queue_us: int
    draft_us: int
    num_steps: int


class DraftJob(Job[DraftResult]):
    """Advance one session by committed tokens, then draft."""

    def __init__(self, session: Session, committed_token_ids: Sequence[int], shape: TreeShape = NO_DRAFT) -> None:
        super().__init__()
        self.session = session
        self.committed_token_ids = committed_token_ids
        self.shape = shape
        self.created_ns = time.perf_counter_ns()
        self.started_ns: int | None = None


class DrafterEngine:
    """Owns the model's pool; used by one thread, see `draftpool.engine_thread`."""

    def __init__(
        self, model: RecurrentModel, pool: StatePool, *, max_tree_nodes: int, prefill_chunk_tokens: int
    ) -> None:
        self._model = model
        self._max_tree_nodes = max_tree_nodes
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self.pool = pool

    @torch.inference_mode()
    def turn(self, jobs: Sequence[DraftJob]) -> bool:
        """Answer the jobs whose sessions are up to date; the others have come one prefill chunk closer."""
        self._start([job for job in jobs if job.started_ns is None])
        started = [job for job in jobs if job.is_open]
        self._prefill([job.session for job in started if len(job.session.pending_ids) > 1])
        ready = [job for job in started if len(job.session.pending_ids) <= 1]
        for job in ready:
            job.session.begin_tree(job.shape)
        num_steps = grow_trees(self._model, self.pool, [job.session for job in ready])
        for job in ready:
            job.answer(_draft(job, num_steps))
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
        if job.shape.depth > self._max_tree_nodes or job.shape.num_nodes > self._max_tree_nodes:
            raise BadParameter(
                f"the tree asked for is too large; this drafter draws at most {self._max_tree_nodes} nodes"
            )
        job.session.check(job.committed_token_ids)

    def _advance(self, job: DraftJob) -> None:
        if job.session.is_open:
            job.session.advance(job.committed_token_ids, self.pool)
        else:
            self._model.reset(job.session.open(job.committed_token_ids, self.pool))

    def _prefill(self, sessions: Sequence[Session]) -> None:
        """Feed pending tokens, all but each session's last; a turn's budget is shared equally."""
        for session in sessions:
            num_tokens = min(len(session.pending_ids) - 1, max(1, self._prefill_chunk_tokens // len(sessions)))
            self._model.prefill(session.pending_ids[:num_tokens], session.root_slot)
            del session.pending_ids[:num_tokens]


def _draft(job: DraftJob, num_steps: int) -> DraftResult:
    started_ns = job.started_ns or job.created_ns
    return DraftResult(
        tree=job.session.growth.tree(),
        queue_us=(started_ns - job.created_ns) // 1000,
        draft_us=(time.perf_counter_ns() - started_ns) // 1000,
        num_steps=num_steps,
    )
