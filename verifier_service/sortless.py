"""Choosing from a truncated law without sorting it: much faster on a CPU, where sorting a vocabulary is slow."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from draftpool.choice import min_p_floor, truncated, typical_distances, within_top_k
from draftpool.sampling import SamplingParams


def best_under_noise(logits: Tensor, params: SamplingParams, gumbel: Tensor) -> Tensor:
    """The argmax of `draftpool.choice.coupled_scores`, in a fraction of its time. For CPUs.

    Nothing is sorted. A token is in the nucleus exactly when the tokens of higher logit have a mass below top_p, which
    is one sum to find out; for typical-p the distance takes the place of the logit.

    Args:
        logits: (n, V) float32.
        gumbel: (n, V) float32.

    Returns:
        (n,) int64.
    """
    if params.typical_p < 1:
        logits = truncated(logits / params.temperature, replace(params, typical_p=1.0))
        return _best_inside(logits + gumbel, -typical_distances(logits), logits, params.typical_p)
    logits = within_top_k(logits / params.temperature, params.top_k)
    scores = logits + gumbel
    if params.min_p > 0:
        scores = scores.masked_fill(logits < min_p_floor(logits, params.min_p), -torch.inf)
    if params.top_p < 1:
        return _best_inside(scores, logits, logits, params.top_p)
    return scores.argmax(dim=-1)


def _best_inside(scores: Tensor, ranks: Tensor, logits: Tensor, share: float) -> Tensor:
    """(n,): the best score among the tokens of highest rank that reach a share of the probability together.

    The best of all is nearly always inside; where it is not, neither is any of the same or a lower rank, and the best
    of the others is tried. Each look at the result would make another device than a CPU wait.
    """
    chosen = scores.argmax(dim=-1)
    probs = logits.softmax(dim=-1)
    rows = torch.arange(len(logits), device=logits.device)
    while True:
        edges = ranks.gather(-1, chosen[rows, None])
        is_outside = (probs * (ranks > edges)).sum(dim=-1) >= share
        if not bool(is_outside.any()):
            return chosen
        # The rows that are settled drop out.
        rows, edges = rows[is_outside], edges[is_outside]
        ranks, scores, probs = ranks[is_outside], scores[is_outside], probs[is_outside]
        chosen[rows] = scores.masked_fill(ranks <= edges, -torch.inf).argmax(dim=-1)
