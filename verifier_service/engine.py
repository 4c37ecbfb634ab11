"""The verifier's engine: one turn is one packed forward pass for all sessions that wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from draftpool.errors import DraftpoolError, NoCapacity
from draftpool.recent import RecentShare
from verifier_service import metrics
from verifier_service.choosing import Chooser, Question, choose_all
from verifier_service.companions import PassCost, hold_s
from verifier_service.job import Verdict, VerifyJob
from verifier_service.limits import EngineLimits
from verifier_service.packing import Chunk, pack
from verifier_service.pages import PagePool
from verifier_service.room import Holding, choose_suspended
from verifier_service.runner import Runner
from verifier_service.schedule import Want, plan_pass
from verifier_service.session import Session

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 1.0

Planned = Sequence[tuple[VerifyJob, Chunk]]


class TargetEngine:
    """Owns the sessions and the pages of one target; used by one thread, see `draftpool.engine_thread`.

    Attributes:
        pool: of the pages in the runner's store.
        budget: which share of its token budget was in use lately, by `clock`.

    Args:
        runner: computes the passes.
        vocab_size: V; token ids are below it.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        runner: Runner,
        pool: PagePool,
        limits: EngineLimits,
        vocab_size: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self.pool = pool
        self._limits = limits
        self._pass_limits = limits.of_pass
        self._vocab_size = vocab_size
        self._clock = clock
        self.budget = RecentShare()
        self._sessions: dict[Session, None] = {}
        self._pass_cost = PassCost()
        self._last_pass_end_s = 0.0
        self._num_answered = 0
        # What has to happen in the store before the next pass.
        self._moved: tuple[list[int], list[int]] = ([], [])
        self._cleared: list[int] = []

    @property
    def num_sessions(self) -> int:
        """Admitted ones."""
        return len(self._sessions)

    def new_session(self, chooser: Chooser) -> Session:
        """A session that holds nothing yet; it is admitted with its first job. May be called from any thread."""
        return Session(chooser, self.pool)

    def hold_s(self, jobs: Sequence[VerifyJob]) -> float:
        """How long the next pass should be held for sessions that are about to be back, in seconds.

        Only sessions that draft nothing wait, and are waited for: the others' drafters work meanwhile.
        """
        if any(job.tree.num_nodes for job in jobs):
            return 0.0
        here = {job.session for job in jobs}
        return hold_s(
            time.perf_counter(),
            idle_since=self._last_pass_end_s,
            num_here=len(here),
            others=[
                session.returns for session in self._sessions if session not in here and not session.tree.num_nodes
            ],
            num_answered=self._num_answered,
            fixed_s=self._pass_cost.fixed_s,
        )

    def turn(self, jobs: Sequence[VerifyJob]) -> bool:
        """Compute one pass: jobs that fit in it are answered, others have come one prefill chunk closer.

        Returns:
            Whether there was a pass. Without one, all jobs left open wait for room.
        """
        begun_ns = time.perf_counter_ns()
        self._start([job for job in jobs if not job.is_checked])
        ready = self._make_room([job for job in jobs if job.is_open])
        planned = self._plan(ready)
        if not planned:
            return False
        logits = self._compute(planned)
        if logits is not None:
            self._answer(planned, logits)
            self._count(planned, (time.perf_counter_ns() - begun_ns) / 1e9)
        return True

    def close_session(self, session: Session) -> None:
        """Free all that a session holds; safe to repeat."""
        session.close()
        self._sessions.pop(session, None)

    def check_integrity(self) -> None:
        """Raises RuntimeError when pages leaked."""
        self.pool.check_integrity(session.pages for session in self._sessions)

    def _start(self, jobs: Sequence[VerifyJob]) -> None:
        """Check each new job and move its session along; a job that fails here has cost its batch nothing."""
        for job in jobs:
            job.is_checked = True
            try:
                self._limits.check(job, self._vocab_size)
            except DraftpoolError as error:
                job.fail(error)
                continue
            sources, targets = job.session.advance(job.committed_token_ids, job.tree)
            job.session.idle_since = None
            job.session.returns.come(job.created_ns / 1e9)
            self._moved[0].extend(sources)
            self._moved[1].extend(targets)

    def _make_room(self, jobs: Sequence[VerifyJob]) -> list[VerifyJob]:
        """The jobs whose sessions have the pages that they need, those admitted first before the others.

        Whoever does not get room waits, and nobody is admitted past it.
        """
        by_age = {session: age for age, session in enumerate(self._sessions)}
        ready = set()
        is_full = False
        for job in sorted(jobs, key=lambda job: by_age.get(job.session, len(by_age))):
            is_admitted = job.session in self._sessions
            may_enter = is_admitted or not (is_full or self.num_sessions >= self._limits.max_sessions)
            if may_enter and self._give_room(job.session):
                self._sessions[job.session] = None
                job.started_ns = job.started_ns or time.perf_counter_ns()
                ready.add(job)
            elif is_admitted or not self._has_given_up(job):
                is_full = True
        return [job for job in jobs if job in ready]

    def _give_room(self, session: Session) -> bool:
        """Let a session hold all pages that it needs; suspends others for it where that is due."""
        num_reused = session.reuse()
        num_lacking = session.num_missing_pages - self.pool.num_free
        if num_lacking > 0:
            others = [other for other in self._sessions if other is not session and other.pages]
            chosen = choose_suspended(
                num_lacking, self._holdings(others, session), self.pool.num_holders, max_idle_s=self._limits.max_idle_s
            )
            if chosen is None:
                if session not in self._sessions:
                    session.suspend()
                return False
            for index in chosen:
                others[index].suspend()
            metrics.SUSPENDED_SESSIONS.inc(len(chosen))
        self._cleared += session.take()
        metrics.REUSED_TOKENS.inc(num_reused)
        return True

    def _holdings(self, others: Sequence[Session], asker: Session) -> list[Holding]:
        now = self._clock()
        ages = {session: age for age, session in enumerate(self._sessions)}
        own_age = ages.get(asker, len(ages))
        return [
            Holding(other.pages, ages[other] > own_age, 0 if other.idle_since is None else now - other.idle_since)
            for other in others
        ]

    def _has_given_up(self, job: VerifyJob) -> bool:
        """Fail a job that has waited for admission as long as it may."""
        if job.expires_at is None or self._clock() < job.expires_at:
            return False
        job.fail(NoCapacity(f"no room for {self._describe(job)} came free in time", retry_after_s=_RETRY_AFTER_S))
        return True

    def _describe(self, job: VerifyJob) -> str:
        num_pages = self.pool.pages_for(len(job.session.token_ids) + job.tree.num_nodes)
        return (
            f"a session of {num_pages} pages of KV cache ({self.pool.num_free} of {self.pool.num_pages} are free, "
            f"{self.num_sessions} of {self._limits.max_sessions} sessions open)"
        )

    def _plan(self, jobs: Sequence[VerifyJob]) -> Planned:
        wants = [Want(job.session.num_pending, job.tree.num_nodes) for job in jobs]
        return [
            (jobs[share.request], Chunk(jobs[share.request].session, share.num_committed, share.is_last))
            for share in plan_pass(wants, self._pass_limits)
        ]

    def _compute(self, planned: Planned) -> Tensor | None:
        """(R, V): logits of the rows that choose, chunk after chunk; the cache then holds all that was planned."""
        chunks = [chunk for _, chunk in planned]
        layout = pack(chunks, moved=self._moved, cleared=self._cleared)
        self._moved, self._cleared = ([], []), []
        try:
            logits = self._runner.run(layout)
        except torch.OutOfMemoryError:
            self._shrink(planned)
            return None
        num_pass_tokens = sum(chunk.num_tokens for chunk in chunks)
        for job, chunk in planned:
            job.num_pass_sessions, job.num_pass_tokens = len(chunks), num_pass_tokens
            chunk.session.num_cached += chunk.num_committed
            chunk.session.publish()
            job.num_passes += 1
            job.num_computed_tokens += chunk.num_tokens
        return logits

    def _shrink(self, planned: Planned) -> None:
        """After a pass too large for the device's memory: half as many tokens from now on, and again.

        What the pass had written may be incomplete: its sessions start over from what was published before it. Those
        that do not even fit in the smallest pass are told so.
        """
        torch.cuda.empty_cache()
        for _, chunk in planned:
            chunk.session.suspend()
        smaller = self._pass_limits.halved(self._limits.smallest_pass)
        if smaller == self._pass_limits:
            for job, _ in planned:
                job.fail(NoCapacity("the device has no memory for this pass", retry_after_s=_RETRY_AFTER_S))
        log.warning("the device is out of memory; passes have at most %d tokens now", smaller.max_pass_tokens)
        self._pass_limits = smaller

    def _answer(self, planned: Planned, logits: Tensor) -> None:
        finished = [job for job, chunk in planned if chunk.is_last]
        choices = choose_all(logits, [_question(job) for job in finished])
        now = self._clock()
        self._last_pass_end_s, self._num_answered = time.perf_counter(), len(finished)
        for job, choice in zip(finished, choices, strict=True):
            job.session.idle_since = now
            job.session.returns.answer(self._last_pass_end_s)
            if isinstance(choice, DraftpoolError):
                job.fail(choice)
            else:
                job.answer(Verdict.of(job, choice))

    def _count(self, planned: Planned, pass_s: float) -> None:
        chunks = [chunk for _, chunk in planned]
        num_tokens = sum(chunk.num_tokens for chunk in chunks)
        share = self._pass_limits.budget_share(
            num_tokens=num_tokens,
            num_prefill_tokens=sum(chunk.num_committed - chunk.is_last for chunk in chunks),
        )
        self._pass_cost.add(num_tokens, pass_s)
        now_s = self._clock()
        self.budget.add(now_s - pass_s, now_s, weight=share)
        metrics.count_pass(
            pass_s, num_tokens=num_tokens, num_nodes=sum(chunk.tree.num_nodes for chunk in chunks), budget_share=share
        )


def _question(job: VerifyJob) -> Question:
    return Question(job.session.chooser, job.session.token_ids, job.tree, job.want_logprobs, job.support)
