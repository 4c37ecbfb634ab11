"""What arms bring, learned from lessons."""

import random
from statistics import mean, pvariance

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst
from orchestrator.bandit.nesting import Lesson
from orchestrator.bandit.sums import LocalSums
from orchestrator.bandit.yields import Yield, arm_yields, arms_below, yield_amounts

PAPER = TreeShape((3, 2, 2, 1, 1))
ARMS = (NO_DRAFT, chain(2), chain(3), BestFirst(8, 7), BestFirst(16, 7), PAPER)
BELOW = arms_below(ARMS)


def learned(rounds: list[list[Lesson]]) -> dict[object, Yield]:
    sums = LocalSums()
    for lessons in rounds:
        sums.add("key", yield_amounts(lessons, BELOW))
    return dict(arm_yields(BELOW, sums.view("key")))


def lessons(*num_tokens: int) -> list[Lesson]:
    """Of the two chains and the paper's tree, as one round of the tree teaches them."""
    told = zip((NO_DRAFT, chain(2), chain(3), PAPER), (1, *num_tokens), strict=True)
    return [Lesson(arm, tokens, arm.num_nodes, arm.depth) for arm, tokens in told]


def test_below_an_arm_is_the_largest_that_is_nested_in_it() -> None:
    assert {
        chain(2): NO_DRAFT,
        chain(3): chain(2),
        BestFirst(8, 7): NO_DRAFT,
        BestFirst(16, 7): BestFirst(8, 7),
        PAPER: chain(3),
    } == BELOW


def test_many_rounds_make_the_means_of_what_was_seen() -> None:
    rng = random.Random(0)
    seen = [sorted(rng.randint(1, 6) for _ in range(3)) for _ in range(4000)]
    yields = learned([lessons(*tokens) for tokens in seen])
    for column, arm in enumerate((chain(2), chain(3), PAPER)):
        assert yields[arm].num_tokens == pytest.approx(mean(tokens[column] for tokens in seen), rel=0.01)
        assert yields[arm].num_rounds == 4000
        assert (yields[arm].num_nodes, yields[arm].depth) == (arm.num_nodes, arm.depth)
    inverse = mean(1 / tokens[2] for tokens in seen)
    assert yields[PAPER].inverse_tokens == pytest.approx(inverse, rel=0.01)


def test_the_variance_is_that_of_the_mean() -> None:
    rng = random.Random(0)
    seen = [rng.randint(1, 3) for _ in range(2000)]
    yields = learned([[Lesson(chain(2), tokens, 2, 2)] for tokens in seen])
    assert yields[chain(2)].tokens_variance == pytest.approx(pvariance(seen) / 2000, rel=0.05)


def test_what_a_small_tree_was_seen_to_bring_counts_for_the_large_one() -> None:
    """The tree adds two tokens to the chain's, in ten rounds on hard text; on the rest the chain alone was seen."""
    hard = [lessons(1, 1, 3)] * 10
    easy = [[Lesson(chain(2), 3, 2, 2), Lesson(chain(3), 4, 3, 3)]] * 5000
    assert learned(hard + easy)[PAPER].num_tokens == pytest.approx(4 + 2, rel=0.1)


def test_a_few_rounds_that_add_nothing_do_not_settle_that_an_arm_adds_nothing() -> None:
    yields = learned([lessons(2, 2, 2)] * 3)
    assert yields[PAPER].num_tokens - yields[chain(3)].num_tokens > yields[PAPER].tokens_variance > 0.02


def test_an_arm_that_nobody_has_tried_is_hoped_to_bring_more_than_those_below_it() -> None:
    yields = learned([])
    tokens = [yields[arm].num_tokens for arm in (NO_DRAFT, chain(2), chain(3), PAPER)]
    assert tokens == sorted(tokens)
    assert tokens[0] == 1
    assert yields[NO_DRAFT].tokens_variance == 0
