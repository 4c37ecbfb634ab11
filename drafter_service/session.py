"""What one stream owns: its place in the text, its slots, its last tree."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from drafter_service.bridge import VocabularyBridge
from drafter_service.growth import Candidate, GrowingTree
from drafter_service.state_pool import StatePool
from draftpool.choice import coupled_scores, gumbel_rows
from draftpool.errors import EmptyContext
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT, TreeShape


class Session:
    """The drafter's side of one request.

    The text so far, in drafter tokens, is what the root slot's state has seen followed by `pending_ids`. Except for
    those, advancing by tokens that the last tree holds computes nothing: the state of the deepest stepped node
    on their path becomes the root's.

    Attributes:
        pending_ids: drafter tokens not fed yet.
        growth: the last tree.
        num_committed: tokens of the text, in the target's.
    """

    def __init__(self, bridge: VocabularyBridge, params: SamplingParams) -> None:
        self._bridge = bridge
        self._params = params
        self._noise = None if params.is_greedy else GumbelRows(params.seed, len(bridge.target))
        self._noise_rows: Tensor | None = None
        self._root_slot: int | None = None
        self.num_committed = 0
        self.pending_ids: list[int] = []
        self._root_logits: Tensor | None = None
        self.growth = GrowingTree(NO_DRAFT)

    @property
    def is_open(self) -> bool:
        return self._root_slot is not None

    @property
    def root_slot(self) -> int:
        if self._root_slot is None:
            raise RuntimeError("the session holds no slot: it was not opened, or is closed")
        return self._root_slot

    @property
    def root_logits(self) -> Tensor:
        """(1, V_drafter), of the token after the text."""
        if self._root_logits is None or self.pending_ids:
            raise RuntimeError("the session's last token has not been stepped")
        return self._root_logits

    @property
    def held_slots(self) -> list[int]:
        return [] if self._root_slot is None else [self._root_slot, *self.growth.slots.values()]

    def check(self, committed_token_ids: Sequence[int]) -> None:
        """Raises TokenOutOfVocabulary, EmptyContext; nothing has changed then."""
        if not self.is_open and not committed_token_ids:
            raise EmptyContext("the first message of a session must carry the context, at least one token")
        self._bridge.require_known(committed_token_ids)

    def open(self, context_ids: Sequence[int], pool: StatePool) -> int:
        """Take a slot, which the caller resets, and note the context as pending.

        Raises:
            NoCapacity: no session may open now.
        """
        self._root_slot = pool.open_session()
        self.pending_ids = self._bridge.context_ids(context_ids)
        self.num_committed = len(context_ids)
        return self._root_slot

    def advance(self, committed_token_ids: Sequence[int], pool: StatePool) -> None:
        """Follow the last tree along the committed tokens, keep the state reached, and note the rest as pending.

        The last token is always left pending: its step gives the logits that the next tree starts from. Special tokens
        that the drafter has no word for take a position in the text, but leave no trace in its state.
        """
        self.num_committed += len(committed_token_ids)
        spoken_ids = [token_id for token_id in committed_token_ids if self._bridge.continuation_ids(token_id)]
        slots = self.growth.slots
        stepped = [node for node in self.growth.tree().walk(spoken_ids[:-1]) if node in slots]
        if stepped:
            reached_slot = slots.pop(stepped[-1])
            pool.give_back([self.root_slot])
            self._root_slot = reached_slot
        self._drop_tree(pool)
        for token_id in spoken_ids[len(stepped) :]:
            self.pending_ids += self._bridge.continuation_ids(token_id)

    def catch_up(self, root_logits: Tensor) -> None:
        """Note that the last pending token has been stepped.

        Args:
            root_logits: (1, V_drafter), after it.
        """
        self.pending_ids.clear()
        self._root_logits = root_logits

    def begin_tree(self, shape: TreeShape) -> None:
        """Start an empty tree; the noise of all its levels is drawn at once."""
        self.growth = GrowingTree(shape)
        if self._noise is not None and shape.depth > 0:
            # All nodes of a level share the row of their position; the first level's is the next token's.
            positions = [self.num_committed + level for level in range(shape.depth)]
            self._noise_rows = self._in_drafter_order(gumbel_rows(self._noise, positions))

    def add_level(self, logits: Tensor) -> None:
        """Give every node of the frontier its children: the largest scores under the shared noise.

        Args:
            logits: (n, V_drafter) float32, a row for each node of the frontier.
        """
        growth = self.growth
        if self._bridge.mask is not None:
            logits = logits + self._bridge.mask.to(logits.device)
        noise = None if self._noise_rows is None else self._noise_rows[growth.num_levels].to(logits.device)
        scores = coupled_scores(logits, self._params, noise)
        best = scores.topk(min(growth.num_children, scores.shape[1]), dim=1)
        growth.add_level(
            [
                [
                    Candidate(self._bridge.target_ids[drafter_id], drafter_id)
                    for score, drafter_id in zip(row_scores, row_ids, strict=True)
                    if score > -float("inf")
                ]
                for row_scores, row_ids in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        )

    def close(self, pool: StatePool) -> None:
        """Give everything back; closing twice, or before opening, does nothing."""
        if self._root_slot is not None:
            pool.close_session(self.held_slots)
            self._root_slot = None
            self.growth = GrowingTree(NO_DRAFT)

    def _drop_tree(self, pool: StatePool) -> None:
        pool.give_back(self.growth.slots.values())
        self.growth = GrowingTree(NO_DRAFT)

    def _in_drafter_order(self, rows: Tensor) -> Tensor:
        """(P, V_target) to (P, V_drafter): the noise of each drafter token's target id."""
        return rows if self._bridge.gather_ids is None else rows.index_select(1, self._bridge.gather_ids)
