"""Drafts for the rejection rule are drawn without replacement, from exactly what is said of them."""

from collections import Counter
from itertools import permutations
from math import exp, log

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from drafter_service.draws import LEAST_TOKENS, LEVEL_TOKENS, DrawnNode, Draws, drawn_rows
from drafter_service.growth import Row
from draftpool.sampling import SamplingParams

LOGITS = torch.tensor([1.0, 0.2, -0.5, 0.7, -2.0])
PARAMS = SamplingParams(temperature=0.8, seed=11)
NUM_NODES = 64
NUM_TREES = 200
SUSPICIOUS = 1e-4
"""A lawful sampler falls below this once in ten thousand tests; seeds are fixed, so a run that passes always passes."""


def rows_of_many_nodes(params: SamplingParams, logits: Tensor = LOGITS, log_prob: float = 0.0) -> list[Row]:
    """Two children of every node."""
    rows: list[Row] = []
    for num_committed in range(NUM_TREES):
        tree = Draws(params.seed, num_committed)
        nodes = [DrawnNode(tree, number, 2, log_prob) for number in range(NUM_NODES)]
        rows += drawn_rows(logits.expand(NUM_NODES, -1), params, nodes)
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
    rows = rows_of_many_nodes(PARAMS)
    said = dict(rows[0].support)
    assert said == pytest.approx(law(PARAMS))
    assert p_value(rows, normalised(said)) > SUSPICIOUS


def test_the_test_would_notice_a_law_that_is_a_little_sharper() -> None:
    rows = rows_of_many_nodes(PARAMS)
    assert p_value(rows, law(SamplingParams(temperature=0.7))) < SUSPICIOUS


def test_neither_nodes_nor_trees_share_their_noise() -> None:
    noise = [Draws(5, tree).gumbel(node, 64) for tree in range(40) for node in range(40)]
    correlations = torch.corrcoef(torch.stack(noise))
    correlations.fill_diagonal_(0)
    assert correlations.abs().max() < 0.75  # of 1.3 million pairs of 64 numbers; equal rows would give 1


WIDE = torch.linspace(2, -6, 60)
UNLIKELY = log(20 / LEVEL_TOKENS)
"""Of a path, such that what follows it stays with a probability of a twentieth."""


def test_what_is_left_of_a_cut_law_is_what_siblings_are_drawn_from() -> None:
    rows = rows_of_many_nodes(PARAMS, WIDE, UNLIKELY)
    said = dict(rows[0].support)
    assert LEAST_TOKENS < len(said) < 20
    assert sum(said.values()) == pytest.approx(1)
    assert p_value(rows, normalised(said)) > SUSPICIOUS


def test_the_test_would_notice_if_the_law_were_said_as_it_was_before_the_cut() -> None:
    rows = rows_of_many_nodes(PARAMS, WIDE, UNLIKELY)
    uncut = (WIDE.double() / PARAMS.temperature).softmax(dim=0)
    assert p_value(rows, dict(enumerate(uncut.tolist()))) < SUSPICIOUS


def normalised(probs: dict[int, float]) -> dict[int, float]:
    total = sum(probs.values())
    return {token_id: prob / total for token_id, prob in probs.items()}


@pytest.mark.parametrize("log_prob", [0.0, -2.0, UNLIKELY, -30.0])
def test_a_law_keeps_what_is_likely_to_be_met_and_always_a_few(log_prob: float) -> None:
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    [row] = drawn_rows(logits, PARAMS, [DrawnNode(Draws(1, 1), 0, 3, log_prob)])
    uncut = (logits[0] / PARAMS.temperature).softmax(dim=0)
    likely = {index for index, prob in enumerate(uncut.tolist()) if prob * exp(log_prob) >= 1 / LEVEL_TOKENS}
    few = set(uncut.topk(LEAST_TOKENS).indices.tolist())
    assert {token_id for token_id, _ in row.support} == likely | few
    assert sum(prob for _, prob in row.support) == pytest.approx(1)
    assert {candidate.drafter_id for candidate in row.candidates} <= likely | few


def test_as_many_tokens_stay_as_there_are_children_to_be_drawn() -> None:
    [row] = drawn_rows(WIDE[None], PARAMS, [DrawnNode(Draws(1, 1), 0, 9, -30.0)])
    assert len(row.support) == len(row.candidates) == 9


def test_truncation_and_masks_leave_nothing_outside() -> None:
    logits = LOGITS.clone()
    logits[3] = -torch.inf
    params = SamplingParams(temperature=1, top_k=2, seed=1)
    [row] = drawn_rows(logits[None], params, [DrawnNode(Draws(1, 1), 0, 4, 0.0)])
    assert [token_id for token_id, _ in row.support] == [0, 1]
    assert {candidate.drafter_id for candidate in row.candidates} == {0, 1}
