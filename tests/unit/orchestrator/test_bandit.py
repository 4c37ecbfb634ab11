import random

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from orchestrator.bandit import BanditRegistry, RoundOutcome, RunningMean, TreeBandit, measured_reward, paper_reward

PLAIN_S = 0.01
TREE = TreeShape((3, 2, 2, 1, 1))


def outcome(shape: TreeShape, num_tokens: int, round_s: float, draft_s: float = 0.0) -> RoundOutcome:
    return RoundOutcome(shape, num_tokens, round_s, draft_s, verify_s=round_s - draft_s)


def make_bandit(**changes) -> TreeBandit:
    return TreeBandit(**{"arms": (chain(2), chain(4), TREE), "reward": measured_reward, "exploration": 0.1} | changes)


def test_every_arm_is_tried_once_plain_decoding_first() -> None:
    bandit = make_bandit()
    tried = []
    for _ in range(4):
        tried.append(bandit.choose())
        bandit.observe(outcome(tried[-1], 1, PLAIN_S))
    assert tried == [NO_DRAFT, chain(2), chain(4), TREE]


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
    bandit = make_bandit()
    bandit.observe(outcome(NO_DRAFT, 1, PLAIN_S))
    bandit.observe(outcome(chain(9), 10, PLAIN_S))
    assert bandit.choose() == chain(2)


def test_plain_decoding_scores_minus_one_under_both_rewards() -> None:
    plain = outcome(NO_DRAFT, 1, PLAIN_S)
    assert measured_reward(plain, PLAIN_S) == paper_reward(plain, PLAIN_S) == -1


def test_the_papers_reward_is_minus_one_plus_drafting_over_tokens() -> None:
    drafted = outcome(chain(4), 3, round_s=0.016, draft_s=0.005)
    assert paper_reward(drafted, PLAIN_S) == pytest.approx(-(1 / 3 + 0.5 / 3))


def test_one_stalled_round_does_not_bury_an_arm() -> None:
    assert measured_reward(outcome(TREE, 1, 60.0), PLAIN_S) == -3


def test_a_running_mean_follows_a_change() -> None:
    mean = RunningMean()
    for value in [1.0] * 50 + [2.0] * 100:
        mean.add(value)
    assert mean.value == pytest.approx(2.0, abs=0.01)


def test_a_targets_bandit_has_only_arms_that_its_verifier_takes() -> None:
    bandits = BanditRegistry((chain(2), TREE), measured_reward, exploration=0.1)
    small, large = bandits.bandit("a", "greedy", 8), bandits.bandit("b", "greedy", 64)
    assert TREE in large.means
    assert TREE not in small.means
    assert bandits.bandit("a", "greedy", 8) is small
    assert bandits.bandit("a", "sampled", 8) is not small
