"""From logits to scores under shared noise: the tensor side of sampling, the same in both model services.

Imports torch; the orchestrator and the client never import this module.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams

_NUCLEUS_PROBES = (256, 2048)
"""On a CPU, top-p looks for the nucleus among so many tokens first; sorting a whole vocabulary is the slow case."""


def coupled_scores(logits: Tensor, params: SamplingParams, gumbel: Tensor | None) -> Tensor:
    """Scores whose argmax is an exact sample of the law that `params` make of `logits`.

    score(v) = log p(v) - log E(v) up to a constant of the row, with p the law after temperature, top-k, top-p, min-p
    and typical-p. Greedy decoding is the same path with E = 1. What comes before the temperature (masks, bias,
    penalties) needs the tokens so far and is the verifier's alone: `verifier_service.logits`.

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
    """Set logits outside top-k to -inf, then outside top-p of what is left, then min-p, then typical-p.

    Args:
        logits: (n, V) float32, temperature already applied.

    Returns:
        (n, V); the same tensor where nothing is cut. Ties at the edge stay in.

    Source: min-p, arXiv:2407.01082; locally typical sampling, arXiv:2202.00666; the order is that of transformers.
    """
    logits = within_top_k(logits, params.top_k)
    if params.top_p < 1:
        logits = logits.masked_fill(logits < _nucleus_edge(logits, params.top_p), -torch.inf)
    if params.min_p > 0:
        logits = logits.masked_fill(logits < min_p_floor(logits, params.min_p), -torch.inf)
    if params.typical_p < 1:
        logits = _within_typical(logits, params.typical_p)
    return logits


def within_top_k(logits: Tensor, top_k: int) -> Tensor:
    """(n, V); 0 keeps all."""
    if not 0 < top_k < logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


def min_p_floor(logits: Tensor, min_p: float) -> Tensor:
    """(n, 1): the logit of a token min_p times as probable as the row's most probable one."""
    return logits.amax(dim=-1, keepdim=True) + math.log(min_p)


def typical_distances(logits: Tensor) -> Tensor:
    """(n, V): how far each token's information is from the row's entropy, in nats; inf where it has no probability."""
    log_probs = logits.log_softmax(dim=-1)
    entropy = -(log_probs.exp() * log_probs.clamp(min=torch.finfo(logits.dtype).min)).sum(dim=-1, keepdim=True)
    return (log_probs + entropy).abs()


def _within_typical(logits: Tensor, typical_p: float) -> Tensor:
    """Keep the tokens of the smallest distances, up to a probability of typical_p."""
    distances = typical_distances(logits)
    nearest, order = distances.sort(dim=-1)
    mass = logits.softmax(dim=-1).gather(-1, order).cumsum(dim=-1)
    last = (mass < typical_p).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return logits.masked_fill(distances > nearest.gather(-1, last), -torch.inf)


def _nucleus_edge(logits: Tensor, top_p: float) -> Tensor:
    """(n, 1): the smallest logit of each row's nucleus."""
    return probed_nucleus_edge(logits, top_p) if logits.device.type == "cpu" else sorted_nucleus_edge(logits, top_p)


def probed_nucleus_edge(logits: Tensor, top_p: float) -> Tensor:
    """`sorted_nucleus_edge`, of few tokens where they suffice: faster on a CPU, but it waits for other devices."""
    vocab_size = logits.shape[-1]
    log_total = logits.logsumexp(dim=-1, keepdim=True)
    for num_probed in (*(probe for probe in _NUCLEUS_PROBES if probe < vocab_size), vocab_size):
        largest = logits.topk(num_probed, dim=-1).values
        mass = (largest - log_total).exp().cumsum(dim=-1)
        if bool((mass[:, -1] >= top_p).all()):
            break
    return _edge(largest, mass, top_p)


def sorted_nucleus_edge(logits: Tensor, top_p: float) -> Tensor:
    """(n, 1): the smallest logit of each row's nucleus, by sorting it."""
    largest = logits.sort(dim=-1, descending=True).values
    mass = (largest - logits.logsumexp(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    return _edge(largest, mass, top_p)


def _edge(largest: Tensor, mass: Tensor, top_p: float) -> Tensor:
    """The logit with which the mass reaches top_p; rounding may keep it just short of it."""
    last = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=largest.shape[-1] - 1)
    return largest.gather(-1, last)


def gumbel_rows(noise: GumbelRows, positions: list[int]) -> Tensor:
    """(P, V) float32 on the CPU: the request's noise for P positions."""
    return torch.from_numpy(noise.rows(positions))
