"""The draft, verify, accept loop of one request."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum

from draftpool.tree import NO_DRAFT, DraftTree
from draftpool.tree_policy import TreePolicy
from draftpool.vocabulary import Vocabulary
from orchestrator.acceptance import AcceptedPath, accept_path
from orchestrator.bandit import RoundOutcome, TreeBandit, VerifiedTree
from orchestrator.drafting import Draft, DraftSource
from orchestrator.text import TextAssembler, TextToken
from orchestrator.verifying import Verdict, VerifySource


class FinishReason(Enum):
    """Why a generation ended."""

    EOS = "eos"
    LENGTH = "length"
    STOP = "stop"


@dataclass(frozen=True)
class Limits:
    """When a generation ends.

    Attributes:
        max_new_tokens: at least 1; prompt and new tokens fit in the target's context.
        stop: strings before which the text ends.
        stop_token_ids: tokens with which it ends.
        ignore_eos: go on after a token that ends the text.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Round:
    """One draft, verify, accept; times in microseconds.

    Attributes:
        tokens: released to the client by this round; may be fewer or more than it committed.
        num_committed: tokens that the round added to the request.
        draft_us, verify_us: busy time that the services report, queueing included.
        wire_us: waiting for replies beyond that.
        finish: why the generation ended, in its last round.
    """

    shape: TreePolicy
    tree: DraftTree
    num_accepted: int
    num_committed: int
    tokens: tuple[TextToken, ...]
    draft_us: int
    verify_us: int
    wire_us: int
    round_us: int
    finish: FinishReason | None


class Generation:
    """A request in progress. The token list here is the truth; the model services hold caches of it."""

    def __init__(
        self,
        prompt_token_ids: Sequence[int],
        *,
        vocabulary: Vocabulary,
        limits: Limits,
        drafts: DraftSource,
        verifier: VerifySource,
        bandit: TreeBandit,
        fixed_shape: TreePolicy | None,
    ) -> None:
        self._token_ids = list(prompt_token_ids)
        self._num_prompt_tokens = len(self._token_ids)
        self._vocabulary = vocabulary
        self._limits = limits
        self._drafts = drafts
        self._verifier = verifier
        self._bandit = bandit
        self._fixed_shape = fixed_shape
        self._text = TextAssembler(vocabulary, limits.stop)
        self.finish: FinishReason | None = None
        self.matched_stop_token_id: int | None = None

    @property
    def num_new_tokens(self) -> int:
        return len(self._token_ids) - self._num_prompt_tokens

    @property
    def matched_stop(self) -> str | None:
        return self._text.matched_stop

    async def rounds(self) -> AsyncGenerator[Round, None]:
        """Generate until a limit is met. Closing the iterator ends both model sessions at once.

        Raises:
            DraftpoolError: the target could not be had, or refused the request.
        """
        try:
            while self.finish is None:
                yield await self._round()
        finally:
            self._drafts.close()
            self._verifier.close()

    async def _round(self) -> Round:
        start = time.perf_counter_ns()
        shape = self._choose_shape()
        draft = await self._drafts.draft(self._token_ids, shape)
        verdict = await self._verifier.verify(self._token_ids, draft.tree)
        path = accept_path(draft.tree, verdict.chosen_token_ids)
        num_before = self.num_new_tokens
        tokens = self._commit(path, verdict)
        num_committed = self.num_new_tokens - num_before
        round_us = (time.perf_counter_ns() - start) // 1000
        if not (draft.opened_session or verdict.opened_session):  # mostly prefill, which says nothing about shapes
            self._learn(shape, draft, verdict, path, num_committed, round_us)
        return Round(
            shape=shape,
            tree=draft.tree,
            num_accepted=min(path.num_accepted, num_committed),
            num_committed=num_committed,
            tokens=tuple(tokens),
            draft_us=draft.draft_us,
            verify_us=verdict.verify_us,
            wire_us=draft.elapsed_us - draft.draft_us + verdict.elapsed_us - verdict.verify_us,
            round_us=round_us,
            finish=self.finish,
        )

    def _choose_shape(self) -> TreePolicy:
        """What the request fixes, else the bandit's choice; never deeper than the tokens still wanted."""
        if not self._drafts.is_available:
            return NO_DRAFT
        shape = self._bandit.choose() if self._fixed_shape is None else self._fixed_shape
        num_wanted = self._limits.max_new_tokens - self.num_new_tokens
        return shape.no_deeper_than(num_wanted - 1)

    def _learn(
        self, shape: TreePolicy, draft: Draft, verdict: Verdict, path: AcceptedPath, num_committed: int, round_us: int
    ) -> None:
        if shape.depth > 0 and draft.elapsed_us == 0:
            return  # no drafter answered; that is no property of the shape
        self._bandit.observe(
            RoundOutcome(
                VerifiedTree(draft.policy or shape, draft.tree, path.nodes, num_committed),
                round_s=round_us / 1e6,
                draft_s=draft.elapsed_us / 1e6,
                verify_s=verdict.elapsed_us / 1e6,
                num_sessions=verdict.num_sessions,
            )
        )

    def _commit(self, path: AcceptedPath, verdict: Verdict) -> list[TextToken]:
        """Add the path's tokens to the truth, up to the first that ends the generation; return what is released."""
        released: list[TextToken] = []
        for index, (token_id, row) in enumerate(zip(path.token_ids, path.rows, strict=True)):
            self._token_ids.append(token_id)
            logprob = verdict.chosen_logprobs[row] if verdict.chosen_logprobs else None
            released += self._text.push(
                token_id, drafted=index < path.num_accepted, logprob=logprob, top_logprobs=verdict.top(row)
            )
            self.finish = self._finish_after(token_id)
            if self.finish is not None:
                return released + self._text.finish()
        return released

    def _finish_after(self, token_id: int) -> FinishReason | None:
        if token_id in self._vocabulary.eos_token_ids and not self._limits.ignore_eos:
            return FinishReason.EOS
        if token_id in self._limits.stop_token_ids:
            self.matched_stop_token_id = token_id
            return FinishReason.STOP
        if self._text.matched_stop is not None:
            return FinishReason.STOP
        if self.num_new_tokens == self._limits.max_new_tokens:
            return FinishReason.LENGTH
        return None
