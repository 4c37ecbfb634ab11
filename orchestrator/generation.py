"""The draft, verify, accept loop of one request."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT, DraftTree
from draftpool.tree_policy import TreePolicy
from draftpool.vocabulary import Vocabulary
from orchestrator.acceptance import AcceptedPath
from orchestrator.bandit import RoundOutcome, TreeBandit, VerifiedTree
from orchestrator.drafting import Draft, DraftSource
from orchestrator.rules import Accept, coupled
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
        wire_us: waiting for replies beyond that, also for a draft that did not come in time.
        draft_wire_us: of these, for the draft.
        opened_draft_session, opened_verify_session: whether a service took in the whole context first.
        finish: why the generation ended, in its last round.
        was_hedged: a draft was asked for and not waited for to the end.
        draft_was_late: the tree is the rest of one that an earlier round did not wait for.
        num_drafters_lost, num_verifiers_lost: sessions lost and made good, or done without, within the round.
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
    opened_draft_session: bool
    opened_verify_session: bool
    finish: FinishReason | None
    was_hedged: bool = False
    draft_was_late: bool = False
    num_drafters_lost: int = 0
    num_verifiers_lost: int = 0
    draft_wire_us: int = 0


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
        resumed_token_ids: Sequence[int] = (),
        accept: Accept = coupled,
    ) -> None:
        """`resumed_token_ids`: of the answer, what another stream has brought the client.

        Raises:
            BadParameter: the answer ends before the last of them.
        """
        self._accept = accept
        self._token_ids = list(prompt_token_ids)
        self._num_prompt_tokens = len(self._token_ids)
        self._vocabulary = vocabulary
        self._limits = limits
        self._drafts = drafts
        self._verifier = verifier
        self._bandit = bandit
        self._fixed_shape = fixed_shape
        self._chosen: TreePolicy | None = None
        self._text = TextAssembler(vocabulary, limits.stop, num_known=len(resumed_token_ids))
        self.finish: FinishReason | None = None
        self.matched_stop_token_id: int | None = None
        self._resume(resumed_token_ids)

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
            self.pause()

    def pause(self) -> None:
        """End both model sessions, between two rounds; the next round opens them again."""
        self._drafts.close()
        self._verifier.close()

    def _resume(self, token_ids: Sequence[int]) -> None:
        """Take tokens over as if they had been generated here."""
        for index, token_id in enumerate(token_ids):
            if self.finish is not None:
                raise BadParameter(
                    f"resume_token_ids holds {len(token_ids)} tokens, but the answer ends ({self.finish.value}) with "
                    f"number {index} of them"
                )
            self._token_ids.append(token_id)
            self._text.push(token_id, drafted=False)
            self.finish = self._finish_after(token_id)

    async def _round(self) -> Round:
        shape = self._choose_shape()
        try:
            return await self._play(shape)
        finally:
            self._release()

    async def _play(self, shape: TreePolicy) -> Round:
        start = time.perf_counter_ns()
        draft = await self._drafts.draft(self._token_ids, shape)
        verdict = await self._verifier.verify(self._token_ids, draft.tree, draft.laws)
        path = self._accept(draft, verdict, len(self._token_ids))
        num_before = self.num_new_tokens
        tokens = self._commit(path, verdict)
        num_committed = self.num_new_tokens - num_before
        round_us = (time.perf_counter_ns() - start) // 1000
        if not (draft.opened_session or verdict.opened_session):  # mostly prefill, which says nothing about shapes
            self._learn(shape, draft, verdict, path, num_committed, round_us)
        return Round(
            shape=draft.policy or shape,
            tree=draft.tree,
            num_accepted=min(path.num_accepted, num_committed),
            num_committed=num_committed,
            tokens=tuple(tokens),
            draft_us=draft.draft_us,
            verify_us=verdict.verify_us,
            wire_us=draft.elapsed_us - draft.draft_us + verdict.elapsed_us - verdict.verify_us,
            round_us=round_us,
            opened_draft_session=draft.opened_session and not draft.is_late,  # then it was opened rounds ago
            opened_verify_session=verdict.opened_session,
            finish=self.finish,
            was_hedged=draft.was_hedged,
            draft_was_late=draft.is_late,
            num_drafters_lost=draft.num_lost,
            num_verifiers_lost=verdict.num_lost,
            draft_wire_us=draft.elapsed_us - draft.draft_us,
        )

    def _choose_shape(self) -> TreePolicy:
        """What the request fixes, else the bandit's choice; never deeper than the tokens still wanted."""
        if not self._drafts.is_available:
            return NO_DRAFT
        if self._fixed_shape is None:
            shape = self._chosen = self._bandit.choose()
        else:
            shape = self._fixed_shape
        num_wanted = self._limits.max_new_tokens - self.num_new_tokens
        return shape.no_deeper_than(num_wanted - 1)

    def _release(self) -> None:
        """The round whose shape the bandit chose is over."""
        if self._chosen is not None:
            self._bandit.release()
            self._chosen = None

    def _learn(
        self, shape: TreePolicy, draft: Draft, verdict: Verdict, path: AcceptedPath, num_committed: int, round_us: int
    ) -> None:
        """A round that went on without its draft is a plain one; what it waited is charged to what was asked for."""
        if shape.depth > 0 and draft.policy is None:
            return  # no drafter answered; that is no property of the shape
        waited_us = draft.elapsed_us if draft.was_hedged else 0
        if draft.policy is not None and waited_us:
            self._bandit.charge(draft.policy, waited_us / 1e6, verdict.num_sessions)
        played = NO_DRAFT if draft.was_hedged else draft.policy or shape
        self._bandit.observe(
            RoundOutcome(
                VerifiedTree(played, draft.tree, path.nodes, num_committed, is_rest=draft.is_late),
                round_s=(round_us - waited_us) / 1e6,
                draft_s=(draft.elapsed_us - waited_us) / 1e6,
                verify_s=verdict.elapsed_us / 1e6,
                num_sessions=verdict.num_sessions,
                verify_pass=verdict.verify_pass,
            )
        )

    def _commit(self, path: AcceptedPath, verdict: Verdict) -> list[TextToken]:
        """Add the path's tokens to the truth, up to the first that ends the generation; return what is released."""
        released: list[TextToken] = []
        for index, (token_id, row) in enumerate(zip(path.token_ids, path.rows, strict=True)):
            self._token_ids.append(token_id)
            released += self._text.push(
                token_id,
                drafted=index < path.num_accepted,
                logprob=verdict.logprob(row, token_id),
                top_logprobs=verdict.top(row),
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
