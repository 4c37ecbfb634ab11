"""Times of rounds, learned."""

import random
from dataclasses import replace

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.bandit.passes import PassCosts, VerifyPass, pass_amounts
from orchestrator.bandit.sums import LocalSums
from orchestrator.bandit.timing import RoundTimes, TimedRound, timing_amounts

PLAIN_S, NODE_S, LEVEL_S = 0.010, 0.0004, 0.0009
DRAFTING: tuple[TreePolicy, ...] = (chain(2), chain(4), BestFirst(8, 5), TreeShape((3, 2, 2, 1, 1)))
ARMS = (NO_DRAFT, *DRAFTING)
UNKNOWN = PassCosts({}).node_price(1, 1)


def timed(policy: TreePolicy, round_s: float) -> TimedRound:
    alone = VerifyPass(1, policy.num_nodes + 1, round_s - LEVEL_S * policy.depth)
    return TimedRound(policy, policy.num_nodes, alone, policy.depth, round_s, round_s / 4, round_s / 2, 1)


def planted_s(policy: TreePolicy) -> float:
    return PLAIN_S + NODE_S * policy.num_nodes + LEVEL_S * policy.depth


def learned(rounds: list[TimedRound]) -> RoundTimes:
    sums = LocalSums()
    for one in rounds:
        round_s, _ = known(sums).believed(one)
        sums.add("rounds", timing_amounts(one, round_s))
        sums.add("passes", pass_amounts(PassCosts(sums.view("passes")).believed(one.verify_pass)))
    return known(sums)


def known(sums: LocalSums) -> RoundTimes:
    return RoundTimes(sums.view("rounds"), PassCosts(sums.view("passes")).node_price(1, 1))


def test_planted_costs_are_found() -> None:
    rng = random.Random(0)
    times = learned([timed(arm, planted_s(arm) * rng.uniform(0.8, 1.2)) for arm in ARMS * 100])
    assert times.plain_s == pytest.approx(PLAIN_S, rel=0.06)
    for arm in (*DRAFTING, chain(3), BestFirst(32, 7)):
        assert times.drafted_s(arm.num_nodes, arm.depth) == pytest.approx(planted_s(arm), rel=0.06)


def test_a_few_rounds_of_two_arms_tell_roughly_what_the_others_take() -> None:
    times = learned([timed(arm, planted_s(arm)) for arm in (NO_DRAFT, BestFirst(8, 5)) * 2])
    for arm in ARMS:
        assert times.arm_seconds(arm, arm.num_nodes, arm.depth)[0] == pytest.approx(planted_s(arm), rel=0.35)


def test_nothing_known_is_the_prior_in_plain_rounds() -> None:
    times = RoundTimes({}, UNKNOWN)
    assert times.plain_s == 1
    assert 1 < times.drafted_s(8, 5) < times.drafted_s(45, 5)


@pytest.mark.parametrize("seed", range(20))
def test_no_part_of_a_round_takes_negative_time(seed: int) -> None:
    rng = random.Random(seed)
    times = learned([timed(rng.choice(ARMS), rng.uniform(0.001, 0.1)) for _ in range(rng.randrange(1, 12))])
    assert times.plain_s > 0
    assert times.drafted_s(0, 0) > 0
    assert times.drafted_s(1, 0) >= times.drafted_s(0, 0)
    assert times.drafted_s(0, 1) >= times.drafted_s(0, 0)


def test_an_arm_that_is_no_line_speaks_for_itself_once_it_was_played_often() -> None:
    odd = chain(3)
    times = learned([timed(arm, planted_s(arm)) for arm in ARMS * 20] + [timed(odd, 2 * planted_s(odd))] * 40)
    assert times.arm_seconds(odd, 3, 3)[0] == pytest.approx(2 * planted_s(odd), rel=0.1)


def test_an_arms_error_shrinks_as_it_is_played() -> None:
    few, many = learned([timed(ARMS[3], 0.01)] * 4), learned([timed(ARMS[3], 0.01)] * 100)
    assert many.arm_seconds(ARMS[3], 8, 5)[1] < few.arm_seconds(ARMS[3], 8, 5)[1]


def test_a_stalled_round_counts_as_a_few() -> None:
    rounds = [timed(arm, planted_s(arm)) for arm in ARMS * 10]
    times = learned([*rounds, timed(ARMS[3], 60.0)])
    assert times.arm_seconds(ARMS[3], 8, 5)[0] < 1.3 * planted_s(ARMS[3])


def test_a_round_that_is_far_too_quick_says_that_what_was_known_is_old() -> None:
    times = learned([timed(NO_DRAFT, 60.0)] * 3)
    assert times.believed(timed(NO_DRAFT, 0.01)) == (0.01, True)
    assert learned([timed(NO_DRAFT, 0.01)] * 3).believed(timed(NO_DRAFT, 0.009)) == (0.009, False)


def test_a_levels_share_is_drafting_a_level_over_verifying() -> None:
    drafted = TimedRound(
        chain(4), 4, VerifyPass(1, 5, 0.02), 4, round_s=0.03, draft_s=0.008, verify_s=0.02, num_sessions=1
    )
    assert learned([drafted] * 3).level_share == pytest.approx(0.1)


def test_sessions_that_share_passes_count_as_one() -> None:
    together = replace(timed(ARMS[3], 0.01), num_sessions=8, verify_pass=VerifyPass(8, 8 * 9, 0.005))
    alone, crowd = learned([timed(ARMS[3], 0.01)] * 4).sums, learned([together] * 32).sums
    of_sessions = {"in_pass", "open"}
    assert {name: crowd[name] for name in crowd.keys() - of_sessions} == pytest.approx(
        {name: alone[name] for name in alone.keys() - of_sessions}
    )
    assert {crowd[name] / crowd["rounds"] for name in of_sessions} == {8}


def test_that_to_draft_at_all_has_a_price_is_told_by_the_first_drafts_to_all_arms() -> None:
    at_all_s = 0.006
    times = learned([timed(NO_DRAFT, PLAIN_S)] * 20 + [timed(chain(2), planted_s(chain(2)) + at_all_s)] * 10)
    assert times.plain_s == pytest.approx(PLAIN_S, rel=0.05)
    for arm in (chain(1), chain(3), chain(4)):
        assert times.arm_seconds(arm, arm.num_nodes, arm.depth)[0] == pytest.approx(planted_s(arm) + at_all_s, rel=0.25)


def test_no_round_is_thought_to_take_less_than_the_passes_that_it_needs() -> None:
    """64 sessions, 8 of them in a pass on average: with large trees the verifier is what all wait for."""
    passes = LocalSums()
    for num_rows in (8, 16, 64) * 10:
        passes.add("key", pass_amounts(VerifyPass(8, num_rows, 0.01 + 0.001 * num_rows)))
    price = PassCosts(passes.view("key")).node_price(8, 64)
    times = RoundTimes(learned([timed(NO_DRAFT, 0.2), timed(chain(2), 0.25)] * 20).sums, price)
    largest = TreeShape((3, 2, 2, 1, 1))
    assert times.arm_seconds(largest, largest.num_nodes, largest.depth)[0] >= 0.95 * (0.01 + 64 * 46 * 0.001)
