import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from orchestrator.bandit.nesting import Lesson
from orchestrator.bandit.passes import PassCosts, VerifyPass
from orchestrator.bandit.rewards import MAX_LOSS, Pricing, measured_reward, paper_reward
from orchestrator.bandit.timing import RoundTimes, TimedRound, timing_amounts
from orchestrator.bandit.yields import Yield, arm_yields, arms_below, yield_amounts

PLAIN_S = 0.01
TREE = TreeShape((3, 2, 2, 1, 1))


def times(arm: TreeShape, num_plain_rounds: float, draft_s: float = 0.0) -> RoundTimes:
    """Plain rounds and rounds of an arm, a thousand each."""
    sums: dict[str, float] = {}
    for policy, round_s, own_draft_s in ((NO_DRAFT, PLAIN_S, 0.0), (arm, num_plain_rounds * PLAIN_S, draft_s)):
        alone = VerifyPass(1, policy.num_nodes + 1, PLAIN_S)
        timed = TimedRound(policy, policy.num_nodes, alone, policy.depth, round_s, own_draft_s, PLAIN_S, 1)
        for name, amount in timing_amounts(timed, round_s).items():
            sums[name] = sums.get(name, 0.0) + 1000 * amount
    return RoundTimes(sums, PassCosts({}).node_price(1, 1))


def brought(arm: TreeShape, *num_tokens: int) -> Yield:
    """Rounds with so many tokens, a thousand each; without any, what is thought of an arm that nobody has tried."""
    sums: dict[str, float] = {}
    below = arms_below([arm])
    for tokens in num_tokens * 1000:
        for name, amount in yield_amounts([Lesson(arm, tokens, arm.num_nodes, arm.depth)], below).items():
            sums[name] = sums.get(name, 0.0) + amount
    return arm_yields(below, sums)[arm]


@pytest.mark.parametrize("pricing", [measured_reward, paper_reward])
def test_plain_decoding_is_worth_minus_one(pricing: Pricing) -> None:
    assert pricing(arm_yields({}, {})[NO_DRAFT], times(TREE, 2)).value == pytest.approx(-1)


def test_an_arm_is_judged_by_all_its_tokens_over_all_its_time() -> None:
    """Rounds of 1 and of 5 tokens make 3 a round; the mean of 1/N would make it 1.67."""
    assert measured_reward(brought(TREE, 1, 5), times(TREE, 1.5)).value == pytest.approx(-1.5 / 3, rel=0.01)


def test_the_papers_reward_is_one_plus_drafting_over_tokens() -> None:
    reward = paper_reward(brought(chain(4), 3), times(chain(4), 1.5, draft_s=0.5 * PLAIN_S))
    assert reward.value == pytest.approx(-(1 + 0.5) / 3, rel=0.01)


def test_rewards_are_bounded() -> None:
    assert measured_reward(brought(TREE, 1), times(TREE, 50)).value == -MAX_LOSS


def test_what_was_seen_more_often_is_more_certain() -> None:
    seen, unseen = (measured_reward(own, times(TREE, 2)) for own in (brought(TREE, 1, 5), brought(TREE)))
    assert seen.std_error < unseen.std_error
