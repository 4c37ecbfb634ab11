"""What one stream owns: its place in the text, its slots, its last tree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drafter_service.candidates import Ask, Proposing
from drafter_service.draws import Draws
from drafter_service.growth import Node, TreeGrowth
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.state_pool import StatePool
from drafter_service.vocabulary.bridge import VocabularyBridge
from drafter_service.vocabulary.transcript import Transcript
from draftpool.choice import gumbel_rows
from draftpool.errors import BadParameter, EmptyContext
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT, TreeShape
from draftpool.tree_policy import TreePolicy


class Session:
    """The drafter's side of one request.

    The text so far, in drafter tokens, is what the root slot's state has seen followed by `pending_ids`. Except for
    those, advancing by tokens that the last tree holds computes nothing: the state of the deepest stepped node
    on their path becomes the root's.

    Where the target has another vocabulary, the end of the text may come to be spelled otherwise than the root has
    read it. A second slot, the *anchor*, therefore holds the state before that end: the root starts over from there.

    Attributes:
        is_drawn: whether the rejection rule is drafted for.
        pending_ids: drafter tokens not fed to the root yet.
        growth: the last tree.
        num_committed: tokens of the text, in the target's.

    Args:
        is_drawn: for the rejection rule: siblings are drawn without replacement, of tokens that both vocabularies have.
            Nothing is drawn at temperature 0, where every rule is the same.
        is_plain: no spelling of tokens that are not shared, no spelling anew: what there is to compare with.
    """

    def __init__(
        self, bridge: VocabularyBridge, params: SamplingParams, *, is_drawn: bool = False, is_plain: bool = False
    ) -> None:
        self._bridge = bridge
        self.is_drawn = is_drawn and not params.is_greedy
        self._lexicon = bridge.shared if is_plain or self.is_drawn else bridge.spelled
        self._params = params
        self._proposing: Proposing | None = None
        self._noise = None if params.is_greedy or self.is_drawn else GumbelRows(params.seed, len(bridge.target))
        self._noise_rows = torch.empty(0)
        self._is_respelled = not (is_plain or bridge.is_same)
        self._transcript: Transcript | None = None
        self._root_slot: int | None = None
        self._anchor_slot: int | None = None
        self._read_ids: list[int] = []
        """What the root has seen since the anchor."""
        self._settled_ids: list[int] = []
        """What the anchor has still to be fed."""
        self._must_start_over = False
        self.num_committed = 0
        self.pending_ids: list[int] = []
        self._root_logits: Tensor | None = None
        self.growth = self._new_growth(NO_DRAFT)

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
        own = [slot for slot in (self._root_slot, self._anchor_slot) if slot is not None]
        return [*own, *self.growth.slots]

    @property
    def num_to_read(self) -> int:
        """Drafter tokens to be fed before a tree can be grown; the last one is stepped with the trees."""
        return max(0, len(self.pending_ids) - 1) + (len(self._settled_ids) if self._must_start_over else 0)

    @property
    def is_grown(self) -> bool:
        """Whether the tree is as it will be."""
        return not self.pending_ids and self.growth.is_done

    def check(self, committed_token_ids: Sequence[int], policy: TreePolicy) -> None:
        """Raises TokenOutOfVocabulary, EmptyContext, BadParameter; nothing has changed then."""
        if self.is_drawn and not isinstance(policy, TreeShape):
            raise BadParameter(
                "the rejection rule needs trees of fixed branching: which siblings are kept must not depend on them"
            )
        if not self.is_open and not committed_token_ids:
            raise EmptyContext("the first message of a session must carry the context, at least one token")
        self._bridge.require_known(committed_token_ids)

    def open(self, context_ids: Sequence[int], pool: StatePool) -> list[int]:
        """Take slots, which the caller resets, and note the context as pending.

        Raises:
            NoCapacity: no session may open now.
        """
        self._root_slot = pool.open_session()
        self.num_committed = len(context_ids)
        self.pending_ids = self._bridge.context_ids(context_ids)
        if self._is_respelled and (anchor := pool.take_for_level(1)):
            self._anchor_slot = anchor[0]
            self._transcript = Transcript(self._bridge.text_ids, self._bridge.begins_word)
            self._transcript.commit(context_ids)
            self._settle()
        return self.held_slots

    def advance(self, committed_token_ids: Sequence[int], pool: StatePool) -> None:
        """Follow the last tree along the committed tokens, keep the state reached, and note the rest as pending.

        The last token is always left pending: its step gives the logits that the next tree starts from. Special tokens
        that the drafter has no word for take a position in the text, but leave no trace in its state.
        """
        self.num_committed += len(committed_token_ids)
        spoken_ids = [token_id for token_id in committed_token_ids if self._bridge.continuation_ids(token_id)]
        reached = [node for node in self.growth.path(spoken_ids[:-1]) if node.slot is not None]
        if self._transcript is None:
            last = self._reach(reached[-1], pool) if reached else self.growth.root
            for token_id in spoken_ids[last.depth :]:
                self.pending_ids += self._bridge.continuation_ids(token_id)
        elif spoken_ids:
            self._transcript.commit(committed_token_ids)
            self._read_on(reached, self._transcript.ids, pool)
            self._settle()
        self._drop_tree(pool)

    def read(self, model: RecurrentModel, num_tokens: int) -> None:
        """Feed so many of the tokens that are to be read."""
        if self._must_start_over:
            num_settled = min(num_tokens, len(self._settled_ids))
            self._feed_anchor(model, num_settled)
            num_tokens -= num_settled
            if self._settled_ids:
                return
            model.copy(self._anchor, self.root_slot)
            self._must_start_over = False
        num_tokens = min(num_tokens, len(self.pending_ids) - 1)
        if num_tokens > 0:
            model.prefill(self.pending_ids[:num_tokens], self.root_slot)
            self._note_read(num_tokens)

    def settle(self, model: RecurrentModel) -> None:
        """Bring the anchor up to date, which no tree waits for."""
        if self._settled_ids and not self._must_start_over:
            self._feed_anchor(model, len(self._settled_ids))

    def catch_up(self, root_logits: Tensor) -> None:
        """Note that the last pending token has been stepped.

        Args:
            root_logits: (1, V_drafter), after it.
        """
        self._note_read(len(self.pending_ids))
        self._root_logits = root_logits

    def begin_tree(self, policy: TreePolicy) -> None:
        """Start an empty tree; the noise of all its levels is drawn at once."""
        if self._noise is not None and policy.depth > 0:
            # All nodes of a level share the row of their position; the first level's is the next token's.
            positions = [self.num_committed + level for level in range(policy.depth)]
            self._noise_rows = gumbel_rows(self._noise, positions)
        self.growth = self._new_growth(policy)
        self._proposing = Proposing(
            params=self._params,
            mask=self._lexicon.mask,
            noise_rows=self._noise_in_drafter_order() if policy.depth > 0 else None,
            is_other_vocabulary=not (self._lexicon.is_same or self.is_drawn),
            needs_values=not self._lexicon.is_same or not isinstance(policy, TreeShape),
            draws=Draws(self._params.seed, self.num_committed) if self.is_drawn else None,
        )

    def ask(self, node: Node) -> Ask:
        """What is wanted of a node that has been stepped; its tree was begun."""
        if self._proposing is None:
            raise RuntimeError("no tree was begun")
        return Ask(self._proposing, node.depth, node.number, self.growth.num_children(node), node.log_prob)

    def close(self, pool: StatePool) -> None:
        """Give everything back; closing twice, or before opening, does nothing."""
        if self._root_slot is not None:
            pool.close_session(self.held_slots)
            self._root_slot = self._anchor_slot = None
            self.growth = self._new_growth(NO_DRAFT)

    @property
    def _anchor(self) -> int:
        if self._anchor_slot is None:
            raise RuntimeError("the session has no anchor")
        return self._anchor_slot

    def _reach(self, node: Node, pool: StatePool) -> Node:
        """Make a node's state the root's."""
        if node.slot is not None and node.slot != self._root_slot:
            pool.give_back([self.root_slot])
            self._root_slot, node.slot = node.slot, None
        return node

    def _read_on(self, reached: Sequence[Node], text_ids: Sequence[int], pool: StatePool) -> None:
        """Go on from the deepest state that has read the text as it is spelled now; without one, from the anchor."""
        if not self._must_start_over:
            for node in [*reversed(reached), self.growth.root]:
                read_ids = self._read_ids + self.growth.drafter_ids(node)
                if len(read_ids) < len(text_ids) and read_ids == text_ids[: len(read_ids)]:
                    self._reach(node, pool)
                    self._read_ids, self.pending_ids = read_ids, list(text_ids[len(read_ids) :])
                    return
        self._start_over(text_ids)

    def _start_over(self, text_ids: Sequence[int]) -> None:
        self._must_start_over = True
        self._read_ids, self.pending_ids = [], list(text_ids)

    def _settle(self) -> None:
        """Move the anchor's place in the text; the anchor itself follows when it is fed."""
        if self._transcript is None or not (settled_ids := self._transcript.settle()):
            return
        self._settled_ids += settled_ids
        if len(self._read_ids) >= len(settled_ids):
            del self._read_ids[: len(settled_ids)]
        else:
            self._start_over(self._transcript.ids)

    def _feed_anchor(self, model: RecurrentModel, num_tokens: int) -> None:
        if num_tokens > 0:
            model.prefill(self._settled_ids[:num_tokens], self._anchor)
            del self._settled_ids[:num_tokens]

    def _note_read(self, num_tokens: int) -> None:
        if self._transcript is not None:
            self._read_ids += self.pending_ids[:num_tokens]
        del self.pending_ids[:num_tokens]

    def _new_growth(self, policy: TreePolicy) -> TreeGrowth:
        return TreeGrowth(policy, self._lexicon, self._root_slot, self._gumbel)

    def _gumbel(self, level: int, token_id: int) -> float:
        return 0.0 if self._noise is None else float(self._noise_rows[level, token_id])

    def _noise_in_drafter_order(self) -> Tensor | None:
        """(levels, V_drafter): for each drafter token the noise of the target token that it is, or begins with."""
        if self._noise is None:
            return None
        ids = self._lexicon.first_ids
        return self._noise_rows if ids is None else self._noise_rows.index_select(1, ids)

    def _drop_tree(self, pool: StatePool) -> None:
        pool.give_back(self.growth.slots)
        self.growth = self._new_growth(NO_DRAFT)
