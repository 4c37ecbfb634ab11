"""A request's drafts: from whichever drafter answers in time, and none where none does. Never an error.

A round waits for its draft no longer than verifying without one would take. What comes later is not lost: the part of
a late tree that still follows the committed tokens is the next round's draft, and costs that round nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftpool.errors import BrokenReply, DraftpoolError, Unavailable, UnknownVocabulary
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from draftpool.tree_policy import TreePolicy
from orchestrator.draft_session import DraftSession, Drawn
from orchestrator.drafter_pauses import DrafterPauses
from orchestrator.fleet import Fleet, Target
from orchestrator.patience import DraftPatience
from orchestrator.replicas import DrafterReplica, choose_replica
from orchestrator.sparse_laws import SparseLaws

log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 3
_MAX_LATE = 2
"""After so many drafts in a row that came late, the drafter is asked and not waited for, until one would have been in
time."""


@dataclass(frozen=True)
class Draft:
    """A tree and what it took.

    Attributes:
        draft_us: queueing and drafting, as the drafter reports them; 0 where the round did not wait for them.
        elapsed_us: what the round waited for it, in vain or not.
        opened_session: whether the drafter had to take in the whole context first.
        policy: what was asked for, to whose account the round goes; None where nothing was asked, or nobody answered.
        was_hedged: asked for and not there in time.
        is_late: the rest of a tree that an earlier round did not wait for; nothing was asked in this one.
        num_lost: drafters lost on the way.
        laws: for the rejection rule, what the nodes were drawn from; None where none were.
    """

    tree: DraftTree = EMPTY_TREE
    draft_us: int = 0
    elapsed_us: int = 0
    opened_session: bool = False
    policy: TreePolicy | None = None
    was_hedged: bool = False
    is_late: bool = False
    num_lost: int = 0
    laws: SparseLaws | None = None


class DraftSource:
    """The drafter's side of one request.

    Args:
        is_rejection: whether nodes are drawn for the rejection rule.
    """

    def __init__(
        self,
        fleet: Fleet,
        target: Target,
        params: SamplingParams,
        *,
        patience: DraftPatience | None = None,
        is_rejection: bool = False,
    ) -> None:
        self._fleet = fleet
        self._target = target
        self._params = params
        self._patience = patience or DraftPatience()
        self._is_rejection = is_rejection
        self._session: DraftSession | None = None
        self._pauses: DrafterPauses[DrafterReplica] = DrafterPauses()
        self._asked: TreePolicy | None = None
        self._num_late = 0

    @property
    def is_available(self) -> bool:
        """Whether asking for a draft makes sense now. A drafter that drains goes on with the sessions it has."""
        if self._session is not None:
            return not self._session.is_busy
        return bool(self._candidates())

    async def draft(self, token_ids: Sequence[int], shape: TreePolicy) -> Draft:
        """A tree after `token_ids`, of at most that shape, or what is left of one that came late; else the empty tree.

        The drafter is not asked for the empty shape; it catches up with what was committed meanwhile when it is
        asked next, because every message carries all tokens since the last one.
        """
        if shape.depth == 0 or not self.is_available:
            return Draft()
        start_s = time.monotonic()
        for num_lost in range(_MAX_ATTEMPTS):
            try:
                draft = await self._attempt(token_ids, shape, start_s)
            except DraftpoolError as error:
                self._lose(error)
            else:
                return draft if num_lost == 0 else replace(draft, num_lost=num_lost)
            if not self._candidates():
                return Draft(num_lost=num_lost + 1)
        return Draft(num_lost=_MAX_ATTEMPTS)

    def close(self) -> None:
        """End the session and whatever is under way; asked again, it opens another one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _attempt(self, token_ids: Sequence[int], shape: TreePolicy, start_s: float) -> Draft:
        """What one drafter brings in what is left of the round's wait. Raises DraftpoolError when it is of no use."""
        if self._session is None:
            self._session = self._open()
        if self._session.has_exchange:
            late = self._take(self._session)
            rest = late.tree.after(token_ids[late.num_tokens :])
            if rest.num_nodes and not self._is_rejection:  # whose walk has to know what a whole tree was drawn from
                return Draft(rest, opened_session=late.opened_session, policy=self._asked, is_late=True)
        is_new, wait_s = self._session.is_new, self._wait_s()
        self._asked = shape.within(self._max_tree_nodes(self._session.drafter))
        self._session.ask(token_ids, self._asked)
        if not await self._session.waited(start_s + wait_s - time.monotonic()):
            self._num_late += not is_new
            return Draft(elapsed_us=_us_since(start_s), opened_session=is_new, policy=self._asked, was_hedged=True)
        drawn = self._take(self._session)
        return Draft(
            drawn.tree, drawn.draft_us, _us_since(start_s), opened_session=is_new, policy=self._asked, laws=drawn.laws
        )

    def _take(self, session: DraftSession) -> Drawn:
        drawn = session.take()
        self._pauses.succeed(session.drafter)
        if drawn.elapsed_us <= 1e6 * self._worth_s:
            self._num_late = 0
        return drawn

    @property
    def _worth_s(self) -> float:
        """How long a draft is worth waiting for."""
        return max(self._patience.least_wait_s, self._target.plain_round.plain_round_s or 0.0)

    def _wait_s(self) -> float:
        """How long this round waits for its draft."""
        if self._asked is None:
            return self._patience.first_wait_s
        return 0.0 if self._num_late >= _MAX_LATE else self._worth_s

    def _max_tree_nodes(self, drafter: DrafterReplica) -> int:
        """What the drafter and the target's verifiers both take."""
        limit = self._target.description.max_tree_nodes
        return limit if drafter.description is None else min(limit, drafter.description.max_tree_nodes)

    def _candidates(self) -> list[DrafterReplica]:
        now_s = time.monotonic()
        return [drafter for drafter in self._fleet.drafters if drafter.is_up and self._pauses.is_over(drafter, now_s)]

    def _open(self) -> DraftSession:
        drafter = choose_replica(self._candidates())
        return DraftSession(
            self._fleet, self._target, drafter, self._params, self._patience, is_rejection=self._is_rejection
        )

    def _lose(self, error: DraftpoolError) -> None:
        """Leave the drafter; one that is of no use to anybody is out until it has described itself again."""
        log.warning("draft lost: %s", error.message)
        session, self._session = self._session, None
        if session is None:
            return
        session.close()
        self._pauses.fail(session.drafter, error, time.monotonic())
        if isinstance(error, UnknownVocabulary):
            session.drafter.shared_vocabulary.pop(self._target.vocabulary.fingerprint, None)
        if isinstance(error, Unavailable | BrokenReply):
            session.drafter.report_failure(error.message)


def _us_since(start_s: float) -> int:
    return int(1e6 * (time.monotonic() - start_s))
