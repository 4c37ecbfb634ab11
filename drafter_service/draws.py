"""Drafts for the rejection rule: siblings drawn without replacement, and what they were drawn from.

The rule (Algorithm 1 of arXiv:2506.01206) tries siblings in turn, each against the law that is left when those before
it are taken out; so whoever accepts has to know the law exactly. It is cut to its most probable tokens and normalised
again *before* drawing: what is sent is then all there is.

Where a walk hardly comes, much of a law is wasted. So a token stays if it is likely to be met, its path counted. How
much is cut follows from the laws and from the node's ancestors, never from what is drawn after the node: given the
ancestors, its children follow the law that is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, log

import torch
from torch import Tensor

from drafter_service.growth import Candidate, Row
from draftpool.choice import truncated
from draftpool.noise import DRAW_STREAM, exponential_noise
from draftpool.sampling import SamplingParams

LEVEL_TOKENS = 4000
"""A token stays whose path has at least the probability 1 / LEVEL_TOKENS. The paths of a level have the probability 1
together, at most, so that no more tokens than this can do so in all its laws; mostly it is far fewer."""

LEAST_TOKENS = 4
"""Every law keeps so many, or as many as there are children to be drawn, however unlikely the node is."""


@dataclass(frozen=True)
class Draws:
    """The randomness of one tree: independent from node to node, of other trees, and of the noise of choices.

    Attributes:
        num_committed: tokens of the text that the tree follows.
    """

    seed: int
    num_committed: int

    def gumbel(self, node_number: int, num_tokens: int) -> Tensor:
        """(num_tokens,) float32 for the children of one node; 0 is the root."""
        noise = exponential_noise(self.seed, [node_number], num_tokens, stream=DRAW_STREAM, series=self.num_committed)
        return -torch.from_numpy(noise[0]).log()


@dataclass(frozen=True)
class DrawnNode:
    """A node whose children are drawn.

    Attributes:
        tree: its randomness.
        number: of the node there; 0 is the root.
        num_children: so many are drawn, where the law has them.
        log_prob: of its path, by the laws that were drawn from; 0 for the root.
    """

    tree: Draws
    number: int
    num_children: int
    log_prob: float


def drawn_rows(logits: Tensor, params: SamplingParams, nodes: Sequence[DrawnNode]) -> list[Row]:
    """Children of each node, drawn one after another without replacement.

    The largest of log-probability plus independent Gumbel noise are such a sample, in its order (arXiv:1903.06059).

    Args:
        logits: (n, V_drafter) float32; -inf for what must not be proposed.
    """
    ids, log_probs = _cut(truncated(logits / params.temperature, params), nodes)
    noise = torch.stack([node.tree.gumbel(node.number, log_probs.shape[1]) for node in nodes])
    scores, places = (log_probs + noise).sort(dim=1, descending=True)
    columns = (ids.tolist(), log_probs.tolist(), places.tolist(), scores.tolist())
    return [_row(*row) for row in zip(*columns, (node.num_children for node in nodes), strict=True)]


def _cut(law: Tensor, nodes: Sequence[DrawnNode]) -> tuple[Tensor, Tensor]:
    """(n, S) token ids and log-probabilities of what is drawn from, most probable first; -inf where a row has less."""
    reach = torch.tensor([node.log_prob for node in nodes])
    least = torch.tensor([max(LEAST_TOKENS, node.num_children) for node in nodes])
    most = max(ceil(LEVEL_TOKENS * exp(reach.max())), int(least.max()))
    likely = law.log_softmax(dim=1).topk(min(most, law.shape[1]), dim=1)
    log_probs = likely.values.cpu()
    stays = log_probs + reach[:, None] >= -log(LEVEL_TOKENS)
    stays |= torch.arange(log_probs.shape[1]) < least[:, None]
    num_kept = int(stays.sum(dim=1).max())
    kept = log_probs.masked_fill(~stays, -torch.inf).log_softmax(dim=1)
    return likely.indices[:, :num_kept], kept[:, :num_kept]


def _row(ids: list[int], log_probs: list[float], places: list[int], scores: list[float], num_children: int) -> Row:
    drawn = [
        Candidate(ids[place], score, log_probs[place])
        for place, score in zip(places[:num_children], scores, strict=False)
        if score > -torch.inf
    ]
    support = tuple((token_id, exp(log_prob)) for token_id, log_prob in zip(ids, log_probs, strict=True))
    return Row(drawn, support=tuple(entry for entry in support if entry[1] > 0))
