"""From a session's logits to the tokens the target chooses."""

from __future__ import annotations

import torch
from torch import Tensor

from draftpool.choice import coupled_scores, gumbel_rows
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
    return coupled_scores(logits, session.params, _gumbel(session, logits.device)).argmax(dim=-1)


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
