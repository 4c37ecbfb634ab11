"""Drafts for the rejection rule: siblings drawn without replacement, and what they were drawn from.

The rule (Algorithm 1 of arXiv:2506.01206) tries siblings in turn, each against the law that is left when those before
it are taken out; so whoever accepts has to know the law exactly. It is cut to its most probable tokens and normalised
again *before* drawing: what is sent is then all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

from drafter_service.growth import Candidate, Row
from draftpool.choice import truncated
from draftpool.noise import DRAW_STREAM, exponential_noise
from draftpool.sampling import SamplingParams

SUPPORT_SIZE = 64
"""Tokens of a law that is drawn from, at most."""


@dataclass(frozen=True)
class Draws:
    """The randomness of one tree: independent from node to node, of other trees, and of the noise of choices.

    Attributes:
        num_committed: tokens of the text that the tree follows.
    """

    seed: int
    num_committed: int

    def gumbel(self, node_number: int) -> Tensor:
        """(SUPPORT_SIZE,) float32 for the children of one node; 0 is the root."""
        noise = exponential_noise(self.seed, [node_number], SUPPORT_SIZE, stream=DRAW_STREAM, series=self.num_committed)
        return -torch.from_numpy(noise[0]).log()


def drawn_rows(
    logits: Tensor, params: SamplingParams, draws: Sequence[tuple[Draws, int]], num_children: Sequence[int]
) -> list[Row]:
    """Children of each node, drawn one after another without replacement.

    The largest of log-probability plus independent Gumbel noise are such a sample, in its order (arXiv:1903.06059).

    Args:
        logits: (n, V_drafter) float32; -inf for what must not be proposed.
        draws: each node's tree and its number there.
    """
    law = truncated(logits / params.temperature, params)
    largest = law.topk(min(SUPPORT_SIZE, law.shape[1]), dim=1)
    log_probs = largest.values.log_softmax(dim=1).cpu()
    noise = torch.stack([tree.gumbel(number) for tree, number in draws])[:, : log_probs.shape[1]]
    scores, places = (log_probs + noise).sort(dim=1, descending=True)
    columns = (largest.indices.tolist(), log_probs.tolist(), places.tolist(), scores.tolist())
    return [_row(*row) for row in zip(*columns, num_children, strict=True)]


def _row(ids: list[int], log_probs: list[float], places: list[int], scores: list[float], num_children: int) -> Row:
    drawn = [
        Candidate(ids[place], score, log_probs[place])
        for place, score in zip(places[:num_children], scores, strict=False)
        if score > -torch.inf
    ]
    support = tuple((token_id, exp(log_prob)) for token_id, log_prob in zip(ids, log_probs, strict=True))
    return Row(drawn, support=tuple(entry for entry in support if entry[1] > 0))
