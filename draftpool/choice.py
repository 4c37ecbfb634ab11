"""From logits to scores under shared noise: the tensor side of sampling, the same in both model services.

Imports torch; the orchestrator and the client never import this module.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams

_NUCLEUS_PROBES = (256, 2048)
"""Top-p looks for the nucleus among this many tokens first; sorting a whole vocabulary is the rare, slow case."""


def coupled_scores(logits: Tensor, params: SamplingParams, gumbel: Tensor | None) -> Tensor:
    """Scores whose argmax is an exact sample of the law that `params` make of `logits`.

    score(v) = log p(v) - log E(v) up to a constant of the row, with p the law after temperature, top-k and top-p.
    Greedy decoding is the same path with E = 1.

    Args:
        logits: (n, V) float32.
        params: the request's parameters.
        gumbel: (n, V) float32, -log E of each row's position; None exactly when greedy.

    Returns:
        (n, V) float32; -inf marks tokens outside the law's support.
    """
    if gumbel is None:
        return logits
    return truncated(logits / params.temperature, params) + gumbel


def truncated(logits: Tensor, params: SamplingParams) -> Tensor:
    """Set logits outside top-k, then outside top-p of what is left, to -inf.

    Args:
        logits: (n, V) float32, temperature already applied.

    Returns:
        (n, V); the same tensor where nothing is cut. Ties at the edge stay in.
    """
    vocab_size = logits.shape[-1]
    if 0 < params.top_k < vocab_size:
        smallest_kept = logits.topk(params.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    if params.top_p < 1:
        logits = logits.masked_fill(logits < _nucleus_edge(logits, params.top_p), -torch.inf)
    return logits


def _nucleus_edge(logits: Tensor, top_p: float) -> Tensor:
    """(n, 1): the smallest logit of each row's nucleus."""
    vocab_size = logits.shape[-1]
    log_total = logits.logsumexp(dim=-1, keepdim=True)
    for num_probed in (*(probe for probe in _NUCLEUS_PROBES if probe < vocab_size), vocab_size):
        largest = logits.topk(num_probed, dim=-1).values
        mass = (largest - log_total).exp().cumsum(dim=-1)
        if bool((mass[:, -1] >= top_p).all()):
            break
    # The nucleus ends with the first token that brings the mass to top_p; rounding may keep it just short.
    last = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=num_probed - 1)
    return largest.gather(-1, last)


def gumbel_rows(noise: GumbelRows, positions: list[int]) -> Tensor:
    """(P, V) float32 on the CPU: the request's noise for P positions."""
    return torch.from_numpy(noise.rows(positions))
