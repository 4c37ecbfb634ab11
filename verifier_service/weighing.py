"""What the rejection rule needs of the target: its law on a draft's support, and a sample from outside of it.

The sample is taken by the noise that the coupled rule chooses by, E(seed, position, token): the argmax of p(v) / E(v)
over a part of the vocabulary is an exact sample of p restricted to that part. The rule asks for it to be independent
of the siblings that were drawn and of whether they are accepted. It is: those are decided by two other streams of the
generator (docs/noise.md), and what is already committed, which may decide what the tree and its supports are, has used
up the noise of earlier positions only. Nodes of one depth share a row of noise, and that is no matter either, because a
walk visits one node of each depth, and the next round begins behind the position where it ended.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftpool.choice import truncated
from draftpool.sampling import SamplingParams
from verifier_service.support import Support


def weigh(logits: Tensor, params: SamplingParams, gumbel: Tensor, support: Support) -> dict[str, Tensor]:
    """The law after all parameters, on the support and outside.

    Args:
        logits: (R, V) float32, after masks, bias and penalties.
        params: not greedy.
        gumbel: (R, V) float32, of each row's position.
        support: R rows, S tokens.

    Returns:
        Of `verifier_service.choosing.Choice`: `token_ids` (R,), `support_probs` (S,) and `outside_probs` (R,). The last
        is summed, not taken from 1: it is exact where little is outside, and 0 exactly where nothing is.
    """
    scores = truncated(logits / params.temperature, params)
    probs = scores.softmax(dim=-1)
    rows, token_ids = support.places(logits.device)
    is_inside = torch.zeros_like(probs, dtype=torch.bool)
    is_inside[rows, token_ids] = True
    return {
        "token_ids": (scores + gumbel).masked_fill(is_inside, -torch.inf).argmax(dim=-1),
        "support_probs": probs[rows, token_ids],
        "outside_probs": probs.masked_fill(is_inside, 0).sum(dim=-1),
    }
