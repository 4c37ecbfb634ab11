"""What an engine is asked and what it answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.engine_thread import Job
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Choice
from verifier_service.session import Session
from verifier_service.support import Support


@dataclass(frozen=True)
class Verdict:
    """What a job is answered with.

    Attributes:
        choice: the tokens after the last committed token and after every node.
        queue_us: from the job's creation until its session had room.
        verify_us: from then until the tokens were chosen, batch mates included.
        num_passes: forward passes it took.
        num_computed_tokens: tokens computed for it, nodes included.
        num_pass_sessions, num_pass_tokens: in the last of these passes, all sessions together.
    """

    choice: Choice
    queue_us: int
    verify_us: int
    num_passes: int
    num_computed_tokens: int
    num_pass_sessions: int
    num_pass_tokens: int

    @classmethod
    def of(cls, job: VerifyJob, choice: Choice) -> Verdict:
        """The answer to a job as it stands now."""
        started_ns = job.started_ns or job.created_ns
        return cls(
            choice=choice,
            queue_us=(started_ns - job.created_ns) // 1000,
            verify_us=(time.perf_counter_ns() - started_ns) // 1000,
            num_passes=job.num_passes,
            num_computed_tokens=job.num_computed_tokens,
            num_pass_sessions=job.num_pass_sessions,
            num_pass_tokens=job.num_pass_tokens,
        )


class VerifyJob(Job[Verdict]):
    """Advance one session by committed tokens, then score a tree.

    Attributes:
        support: for the rejection rule: what the target's law is wanted on, row by row; None for the coupled rule.
        expires_at: by the engine's clock; a job whose session is not admitted by then is refused. None waits for ever.
    """

    def __init__(
        self,
        session: Session,
        committed_token_ids: Sequence[int],
        tree: DraftTree = EMPTY_TREE,
        *,
        want_logprobs: bool = False,
        support: Support | None = None,
        expires_at: float | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self.committed_token_ids = committed_token_ids
        self.tree = tree
        self.want_logprobs = want_logprobs
        self.support = support
        self.expires_at = expires_at
        self.created_ns = time.perf_counter_ns()
        self.is_checked = False
        self.started_ns: int | None = None
        self.num_passes = 0
        self.num_computed_tokens = 0
        self.num_pass_sessions = 0
        self.num_pass_tokens = 0
