"""The verifier's engine: one turn is one packed forward pass for all sessions that wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftpool.engine_thread import Job
from draftpool.errors import (
    BadParameter,
    ContextTooLong,
    DraftpoolError,
    EmptyContext,
    MalformedTree,
    NoCapacity,
    TokenOutOfVocabulary,
)
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service import metrics
from verifier_service.choosing import choose, chosen_logprobs
from verifier_service.kv_pool import KvPool
from verifier_service.packing import Chunk, pack
from verifier_service.schedule import PassLimits, Want, plan_pass
from verifier_service.session import Session
from verifier_service.target import Target

_RETRY_AFTER_S = 0.5


@dataclass(frozen=True)
class EngineLimits:
    """What an engine takes.

    Attributes:
        max_sessions: open at the same time.
        max_context_tokens: committed tokens of a session and the depth of its tree together.
        max_tree_nodes: of one tree.
        of_pass: how large a forward pass may be.

    Raises:
        BadParameter: the largest tree does not fit in a pass beside a prefill chunk.
    """

    max_sessions: int
    max_context_tokens: int
    max_tree_nodes: int
    of_pass: PassLimits

    def __post_init__(self) -> None:
        if self.of_pass.prefill_chunk_tokens + 1 + self.max_tree_nodes > self.of_pass.max_pass_tokens:
            raise BadParameter(
                f"max_pass_tokens ({self.of_pass.max_pass_tokens}) must hold a prefill chunk "
                f"({self.of_pass.prefill_chunk_tokens}), a tree ({self.max_tree_nodes}) and 1 more"
            )


@dataclass(frozen=True)
class Verdict:
    """What a job is answered with.

    Attributes:
        chosen_token_ids: N + 1; entry 0 after the last committed token, entry i + 1 after node i.
        chosen_logprobs: as long where asked for, else empty.
        queue_us: from the job's creation until the engine took it up.
        verify_us: from then until the tokens were chosen, batch mates included.
        num_passes: forward passes it took.
        num_computed_tokens: tokens computed for it, nodes included.
    """

    chosen_token_ids: tuple[int, ...]
    chosen_logprobs: tuple[float, ...]
    queue_us: int
    verify_us: int
    num_passes: int
    num_computed_tokens: int


class VerifyJob(Job[Verdict]):
    """Advance one session by committed tokens, then score a tree."""

    def __init__(
        self,
        session: Session,
        committed_token_ids: Sequence[int],
        tree: DraftTree = EMPTY_TREE,
        *,
        want_logprobs: bool = False,
    ) -> None:
        super().__init__()
        self.session = session
        self.committed_token_ids = committed_token_ids
        self.tree = tree
        self.want_logprobs = want_logprobs
        self.created_ns = time.perf_counter_ns()
        self.started_ns: int | None = None
        self.num_passes = 0
        self.num_computed_tokens = 0


class TargetEngine:
    """Owns the model and its KV pool; used by one thread, see `draftpool.engine_thread`."""

    def __init__(self, target: Target, pool: KvPool, limits: EngineLimits) -> None:
        self._target = target
        self._pool = pool
        self._limits = limits
        self._sessions: set[Session] = set()

    @property
    def num_sessions(self) -> int:
        """Open ones."""
        return len(self._sessions)

    @property
    def num_used_slots(self) -> int:
        """Tokens whose keys and values are held, by all sessions."""
        return self._pool.num_used

    @torch.inference_mode()
    def turn(self, jobs: Sequence[VerifyJob]) -> None:
        """Answer the jobs whose sessions fit in this pass; the others have come one prefill chunk closer."""
        begun_ns = time.perf_counter_ns()
        self._start([job for job in jobs if job.started_ns is None])
        planned = self._plan([job for job in jobs if job.is_open])
        if not planned:
            return
        logits = self._compute(planned)
        self._answer(planned, logits)
        self._count(planned, time.perf_counter_ns() - begun_ns)

    def close_session(self, session: Session) -> None:
        """Free all that a session holds; safe to repeat."""
        session.close(self._pool)
        self._sessions.discard(session)

    def check_integrity(self) -> None:
        """Raises RuntimeError when slots leaked."""
        self._pool.check_integrity(slot for session in self._sessions for slot in session.held_slots)

    def _start(self, jobs: Sequence[VerifyJob]) -> None:
        """Check each new job and move its session along; a job that fails here has cost its batch nothing."""
        for job in jobs:
            job.started_ns = time.perf_counter_ns()
            try:
                self._check(job)
                job.session.advance(job.committed_token_ids, job.tree, self._pool)
                self._sessions.add(job.session)
            except DraftpoolError as error:
                job.fail(error)

    def _plan(self, jobs: Sequence[VerifyJob]) -> list[tuple[VerifyJob, Chunk]]:
        wants = [Want(job.session.num_pending, job.tree.num_nodes) for job in jobs]
        return [
            (jobs[share.request], Chunk(jobs[share.request].session, share.num_committed, share.is_last))
            for share in plan_pass(wants, self._limits.of_pass)
        ]

    def _compute(self, planned: Sequence[tuple[VerifyJob, Chunk]]) -> Tensor:
        """(R, V): logits of the rows that choose, chunk after chunk; the cache then holds all that was planned."""
        packed = pack([chunk for _, chunk in planned], self._pool)
        logits = self._target.forward(packed)
        for job, chunk in planned:
            chunk.session.num_cached += chunk.num_committed
            job.num_passes += 1
            job.num_computed_tokens += chunk.num_tokens
        return logits

    @staticmethod
    def _answer(planned: Sequence[tuple[VerifyJob, Chunk]], logits: Tensor) -> None:
        finished = [(job, chunk) for job, chunk in planned if chunk.is_last]
        all_rows = torch.split(logits, [chunk.num_choices for _, chunk in finished])
        for (job, _), rows in zip(finished, all_rows, strict=True):
            chosen = choose(rows, job.session)
            logprobs = chosen_logprobs(rows, chosen).tolist() if job.want_logprobs else ()
            job.answer(_verdict(job, chosen.tolist(), logprobs))

    def _check(self, job: VerifyJob) -> None:
        session, limits = job.session, self._limits
        if session not in self._sessions:
            self._check_opening(job)
        if not job.committed_token_ids:
            raise BadParameter("every message must commit at least one token")
        if job.tree.num_nodes > limits.max_tree_nodes:
            raise MalformedTree(f"the tree has {job.tree.num_nodes} nodes; this verifier takes {limits.max_tree_nodes}")
        for token_ids in (job.committed_token_ids, job.tree.token_ids):
            self._check_vocabulary(token_ids)
        num_tokens = len(session.token_ids) + len(job.committed_token_ids) + job.tree.depth
        if num_tokens > limits.max_context_tokens:
            raise ContextTooLong(
                f"{num_tokens} tokens, the tree's depth included, are more than this verifier's "
                f"{limits.max_context_tokens}"
            )

    def _check_opening(self, job: VerifyJob) -> None:
        if not job.committed_token_ids:
            raise EmptyContext("the first message of a session must carry the context, at least one token")
        if self.num_sessions >= self._limits.max_sessions:
            raise NoCapacity(
                f"this verifier takes {self._limits.max_sessions} sessions and has them", retry_after_s=_RETRY_AFTER_S
            )

    def _check_vocabulary(self, token_ids: Sequence[int]) -> None:
        vocab_size = self._target.vocab_size
        for token_id in token_ids:
            if not 0 <= token_id < vocab_size:
                raise TokenOutOfVocabulary(f"token {token_id} is not one of the model's {vocab_size}")

    @staticmethod
    def _count(planned: Sequence[tuple[VerifyJob, Chunk]], pass_ns: int) -> None:
        chunks = [chunk for _, chunk in planned]
        metrics.count_pass(
            pass_ns / 1e9,
            num_tokens=sum(chunk.num_tokens for chunk in chunks),
            num_nodes=sum(chunk.tree.num_nodes for chunk in chunks),
        )


def _verdict(job: VerifyJob, chosen_token_ids: Sequence[int], logprobs: Sequence[float]) -> Verdict:
    started_ns = job.started_ns or job.created_ns
    return Verdict(
        chosen_token_ids=tuple(chosen_token_ids),
        chosen_logprobs=tuple(logprobs),
        queue_us=(started_ns - job.created_ns) // 1000,
        verify_us=(time.perf_counter_ns() - started_ns) // 1000,
        num_passes=job.num_passes,
        num_computed_tokens=job.num_computed_tokens,
    )
