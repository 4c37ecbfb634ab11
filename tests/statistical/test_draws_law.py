"""Drafts for the rejection rule are drawn without replacement, from exactly what is said of them."""

from collections import Counter
from itertools import permutations

import pytest
import torch
from scipy.stats import chisquare

from drafter_service.draws import SUPPORT_SIZE, Draws, drawn_rows
from drafter_service.growth import Row
from draftpool.sampling import SamplingParams

LOGITS = torch.tensor([1.0, 0.2, -0.5, 0.7, -2.0])
PARAMS = SamplingParams(temperature=0.8, seed=11)
NUM_NODES = 64
NUM_TREES = 200
SUSPICIOUS = 1e-4
"""A lawful sampler falls below this once in ten thousand tests; seeds are fixed, so a run that passes always passes."""


def rows_of_many_nodes(params: SamplingParams, num_children: int) -> list[Row]:
    logits = LOGITS.expand(NUM_NODES, -1)
    rows: list[Row] = []
    for num_committed in range(NUM_TREES):
        draws = [(Draws(params.seed, num_committed), number) for number in range(NUM_NODES)]
        rows += drawn_rows(logits, params, draws, [num_children] * NUM_NODES)
    return rows


def p_value(rows: list[Row], probs: dict[int, float]) -> float:
    """Of the pairs drawn, against drawing twice without replacement."""
    counts = Counter(tuple(candidate.drafter_id for candidate in row.candidates) for row in rows)
    pairs = list(permutations(probs, 2))
    expected = [probs[first] * probs[second] / (1 - probs[first]) for first, second in pairs]
    return float(chisquare([counts[pair] for pair in pairs], [len(rows) * share for share in expected]).pvalue)


def law(params: SamplingParams) -> dict[int, float]:
    return dict(enumerate((LOGITS.double() / params.temperature).softmax(dim=0).tolist()))


def test_siblings_are_drawn_without_replacement_from_what_the_reply_says() -> None:
    rows = rows_of_many_nodes(PARAMS, 2)
    said = dict(rows[0].support)
    assert said == pytest.approx(law(PARAMS))
    total = sum(said.values())
    assert p_value(rows, {token_id: prob / total for token_id, prob in said.items()}) > SUSPICIOUS


def test_the_test_would_notice_a_law_that_is_a_little_sharper() -> None:
    rows = rows_of_many_nodes(PARAMS, 2)
    assert p_value(rows, law(SamplingParams(temperature=0.7))) < SUSPICIOUS


def test_neither_nodes_nor_trees_share_their_noise() -> None:
    noise = [Draws(5, tree).gumbel(node) for tree in range(40) for node in range(40)]
    correlations = torch.corrcoef(torch.stack(noise))
    correlations.fill_diagonal_(0)
    assert correlations.abs().max() < 0.75  # of 1.3 million pairs of 64 numbers; equal rows would give 1


def test_a_wide_law_is_cut_before_it_is_drawn_from() -> None:
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    [row] = drawn_rows(logits, PARAMS, [(Draws(1, 1), 0)], [3])
    assert len(row.support) == SUPPORT_SIZE
    assert sum(prob for _, prob in row.support) == pytest.approx(1)
    assert {candidate.drafter_id for candidate in row.candidates} <= {token_id for token_id, _ in row.support}


def test_truncation_and_masks_leave_nothing_outside() -> None:
    logits = LOGITS.clone()
    logits[3] = -torch.inf
    params = SamplingParams(temperature=1, top_k=2, seed=1)
    [row] = drawn_rows(logits[None], params, [(Draws(1, 1), 0)], [4])
    assert [token_id for token_id, _ in row.support] == [0, 1]
    assert {candidate.drafter_id for candidate in row.candidates} == {0, 1}
