import random

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from orchestrator.bandit import BanditRegistry, Cost, RoundOutcome, RunningMean, TreeBandit, measured_cost, paper_cost

PLAIN_S = 0.01
TREE = TreeShape((3, 2, 2, 1, 1))


def outcome(shape: TreeShape, num_tokens: int, round_s: float, draft_s: float = 0.0) -> RoundOutcome:
    return RoundOutcome(shape, num_tokens, round_s, draft_s)


def make_bandit(**changes) -> TreeBandit:
    return TreeBandit(**{"arms": (chain(2), chain(4), TREE), "pricing": measured_cost, "exploration": 0.1} | changes)


def test_every_arm_is_tried_plain_decoding_first() -> None:
    bandit = make_bandit(num_first_rounds=2)
    tried = []
    for _ in range(8):
        tried.append(bandit.choose())
        bandit.observe(outcome(tried[-1], 1, PLAIN_S))
    assert tried == [NO_DRAFT] * 2 + [chain(2)] * 2 + [chain(4)] * 2 + [TREE] * 2


@pytest.mark.parametrize("best", [NO_DRAFT, chain(4), TREE])
def test_the_best_arm_is_played_most(best: TreeShape) -> None:
    rng = random.Random(0)
    bandit, plays = make_bandit(), []
    for _ in range(400):
        shape = bandit.choose()
        plays.append(shape)
        pays = 2.0 if shape == best else 0.9
        bandit.observe(outcome(shape, 1, PLAIN_S / pays * rng.uniform(0.8, 1.2)))
    assert plays[200:].count(best) > 0.9 * 200


def test_a_shape_that_is_no_arm_teaches_nothing() -> None:
    bandit = make_bandit(num_first_rounds=1)
    bandit.observe(outcome(NO_DRAFT, 1, PLAIN_S))
    bandit.observe(outcome(chain(9), 10, PLAIN_S))
    assert bandit.choose() == chain(2)


def test_plain_decoding_costs_one_a_token_under_both_pricings() -> None:
    plain = outcome(NO_DRAFT, 1, PLAIN_S)
    assert measured_cost(plain, PLAIN_S) == paper_cost(plain, PLAIN_S) == Cost(1, 1)


def test_the_papers_cost_is_one_plus_drafting_over_tokens() -> None:
    drafted = outcome(chain(4), 3, round_s=0.016, draft_s=0.005)
    assert paper_cost(drafted, PLAIN_S).amount == pytest.approx(1 / 3 + 0.5 / 3)


def test_a_shape_is_judged_by_all_its_tokens_over_all_its_time() -> None:
    """Rounds of 1 and of 5 tokens make 3 tokens a round; the mean of 1/N would make it 1.67."""
    bandit = make_bandit()
    bandit.observe(outcome(NO_DRAFT, 1, PLAIN_S))
    for num_tokens in (1, 5, 1, 5):
        bandit.observe(outcome(TREE, num_tokens, 1.5 * PLAIN_S))
    assert bandit.rewards[TREE] == pytest.approx(-1.5 / 3)


def test_one_stalled_round_does_not_bury_an_arm() -> None:
    assert measured_cost(outcome(TREE, 1, 60.0), PLAIN_S).amount == 8


def test_a_running_mean_follows_a_change() -> None:
    mean = RunningMean()
    for value in [1.0] * 50 + [2.0] * 100:
        mean.add(value)
    assert mean.value == pytest.approx(2.0, abs=0.01)


def test_a_targets_bandit_has_only_arms_that_its_verifier_takes() -> None:
    bandits = BanditRegistry((chain(2), TREE), measured_cost, exploration=0.1)
    small, large = bandits.bandit("a", "greedy", 8), bandits.bandit("b", "greedy", 64)
    assert TREE in large.rewards
    assert TREE not in small.rewards
    assert bandits.bandit("a", "greedy", 8) is small
    assert bandits.bandit("a", "sampled", 8) is not small
