"""From a step's logits to the tokens that may come next, for the nodes of many sessions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drafter_service.draws import DrawnNode, Draws, drawn_rows
from drafter_service.growth import SHARPNESS, Candidate, Row
from draftpool.choice import coupled_scores
from draftpool.sampling import SamplingParams

_NUM_LIKELY = 4
_NUM_SPARE = 4
"""Candidates beyond those asked for, where several may turn out to begin with the same token of the target."""


@dataclass(frozen=True, eq=False)
class Proposing:
    """How one session ranks the drafter's tokens, or draws from them.

    Attributes:
        params: the request's.
        mask: (V_drafter,) -inf for tokens that the target cannot say; None where there are none.
        noise_rows: (levels, V_drafter) of the target token that each drafter token is or begins with; None when greedy.
        is_other_vocabulary: whether a drafter token may be several of the target's, or the other way round.
        needs_values: whether nodes are compared across rows, not among siblings alone.
        draws: for the rejection rule: candidates are drawn, not ranked under the shared noise.
    """

    params: SamplingParams
    mask: Tensor | None
    noise_rows: Tensor | None
    is_other_vocabulary: bool
    needs_values: bool
    draws: Draws | None = None

    def is_like(self, other: Proposing) -> bool:
        """Whether both can be computed in one batch."""
        return (
            replace(self.params, seed=other.params.seed) == other.params
            and self.mask is other.mask
            and self.is_other_vocabulary == other.is_other_vocabulary
            and self.needs_values == other.needs_values
            and (self.draws is None) == (other.draws is None)
        )


@dataclass(frozen=True, eq=False)
class Ask:
    """One node that has been stepped.

    Attributes:
        level: its depth.
        number: see `Node`.
        num_children: how many are wanted.
        log_prob: of its path, by the drafter.
    """

    proposing: Proposing
    level: int
    number: int
    num_children: int
    log_prob: float


def rows_after(logits: Tensor, asks: Sequence[Ask]) -> list[Row]:
    """What follows each node, best first under the shared noise.

    Args:
        logits: (n, V_drafter) float32, of the n nodes asked about.
    """
    rows: list[Row | None] = [None] * len(asks)
    waiting = list(range(len(asks)))
    while waiting:
        first = asks[waiting[0]].proposing
        group = [index for index in waiting if first is asks[index].proposing or first.is_like(asks[index].proposing)]
        own = logits if len(group) == len(asks) else logits[group]
        for index, row in zip(group, _alike_rows(own, [asks[index] for index in group]), strict=True):
            rows[index] = row
        waiting = [index for index in waiting if rows[index] is None]
    return [row for row in rows if row is not None]


def _alike_rows(logits: Tensor, asks: Sequence[Ask]) -> list[Row]:
    proposing = asks[0].proposing
    if proposing.mask is not None:
        logits = logits + proposing.mask.to(logits.device)
    drawn = [
        DrawnNode(ask.proposing.draws, ask.number, ask.num_children, ask.log_prob)
        for ask in asks
        if ask.proposing.draws is not None
    ]
    if drawn:
        return drawn_rows(logits, proposing.params, drawn)
    log_probs = None
    if proposing.is_other_vocabulary:  # probabilities are multiplied along a spelling
        temperature = 1.0 if proposing.params.is_greedy else proposing.params.temperature
        log_probs = (logits / temperature).log_softmax(dim=-1)
        logits = log_probs * temperature
    scores = coupled_scores(logits, proposing.params, _noise(asks, logits))
    log_totals = (scores / SHARPNESS).logsumexp(dim=-1).tolist() if proposing.needs_values else [None] * len(asks)
    likely: list[Sequence[tuple[int, float]]] = [()] * len(asks) if log_probs is None else _likely(log_probs)
    num_wanted = max(ask.num_children for ask in asks) + (_NUM_SPARE if proposing.is_other_vocabulary else 0)
    best = scores.topk(min(num_wanted, scores.shape[1]), dim=1)
    best_scores = best.values.tolist()
    own = best.values.zero_() if log_probs is None else log_probs.gather(1, best.indices)
    return [
        Row(_candidates(ids, own_scores, own_log_probs, ask.num_children, proposing), log_total, likely_row)
        for ask, ids, own_scores, own_log_probs, log_total, likely_row in zip(
            asks, best.indices.tolist(), best_scores, own.tolist(), log_totals, likely, strict=True
        )
    ]


def _candidates(
    ids: list[int], scores: list[float], log_probs: list[float], num_children: int, proposing: Proposing
) -> list[Candidate]:
    num_kept = num_children + (_NUM_SPARE if proposing.is_other_vocabulary else 0)
    found = zip(ids[:num_kept], scores, log_probs, strict=False)
    return [Candidate(*candidate) for candidate in found if candidate[1] > -torch.inf]


def _noise(asks: Sequence[Ask], logits: Tensor) -> Tensor | None:
    """(n, V_drafter), a row for each ask."""
    rows = [ask.proposing.noise_rows[ask.level] for ask in asks if ask.proposing.noise_rows is not None]
    return torch.stack(rows).to(logits.device) if rows else None


def _likely(log_probs: Tensor) -> list[Sequence[tuple[int, float]]]:
    best = log_probs.topk(min(_NUM_LIKELY, log_probs.shape[1]), dim=1)
    return [list(zip(*row, strict=True)) for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
