"""From a session's logits to the tokens the target chooses."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from draftpool.choice import gumbel_rows, truncated
from draftpool.sampling import SamplingParams
from verifier_service.session import Session


def choose(logits: Tensor, session: Session) -> Tensor:
    """The token chosen after the last committed token and after every node of the session's tree.

    Each is an exact sample of the law that the session's parameters make of its row, and a function of (tokens
    so far, seed, parameters) alone.

    Args:
        logits: (N + 1, V) float32; row 0 of the last committed token, row i + 1 of node i.

    Returns:
        (N + 1,) int64.
    """
    gumbel = _gumbel(session, logits.device)
    if gumbel is None:
        return logits.argmax(dim=-1)
    return best_under_noise(logits, session.params, gumbel)


def best_under_noise(logits: Tensor, params: SamplingParams, gumbel: Tensor) -> Tensor:
    """The argmax of `draftpool.choice.coupled_scores`, in a fraction of its time where top-p is below 1.

    Nothing is sorted. A token is in the nucleus exactly when the tokens of higher logit have a mass below top_p, which
    is one sum to find out. The best token of all is nearly always inside; where it is not, neither is any of the same
    or a lower logit, and the best of the others is tried.

    Args:
        logits: (n, V) float32.
        gumbel: (n, V) float32.

    Returns:
        (n,) int64.
    """
    logits = truncated(logits / params.temperature, replace(params, top_p=1.0))
    scores = logits + gumbel
    chosen = scores.argmax(dim=-1)
    if params.top_p == 1:
        return chosen
    probs = logits.softmax(dim=-1)
    rows = torch.arange(len(logits), device=logits.device)
    while True:
        edges = logits.gather(-1, chosen[rows, None])
        is_outside = (probs * (logits > edges)).sum(dim=-1) >= params.top_p
        if not bool(is_outside.any()):
            return chosen
        # The rows that are settled drop out.
        rows, edges = rows[is_outside], edges[is_outside]
        logits, scores, probs = logits[is_outside], scores[is_outside], probs[is_outside]
        chosen[rows] = scores.masked_fill(logits <= edges, -torch.inf).argmax(dim=-1)


def chosen_logprobs(logits: Tensor, chosen_token_ids: Tensor) -> Tensor:
    """(n,) float32: log-probabilities of chosen tokens (n,) under the target's own distribution, from logits (n, V)."""
    chosen = logits.gather(-1, chosen_token_ids[:, None])
    return (chosen - logits.logsumexp(dim=-1, keepdim=True))[:, 0]


def _gumbel(session: Session, device: torch.device) -> Tensor | None:
    """(N + 1, V): the noise of the position that each row chooses for; nodes of one depth share theirs."""
    if session.noise is None:
        return None
    next_position = len(session.token_ids)
    by_depth = gumbel_rows(session.noise, list(range(next_position, next_position + session.tree.depth + 1)))
    if session.tree.num_nodes == 0:
        return by_depth.to(device)
    return by_depth.to(device).index_select(0, torch.tensor([0, *session.tree.depths], device=device))
