"""Times of rounds, learned."""

import random
from dataclasses import replace

import pytest

from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.bandit.sums import LocalSums
from orchestrator.bandit.timing import RoundTimes, TimedRound, timing_amounts, with_borrowed

PLAIN_S, NODE_S, LEVEL_S = 0.010, 0.0004, 0.0009
ARMS: tuple[TreePolicy, ...] = (NO_DRAFT, chain(2), chain(4), BestFirst(8, 5), TreeShape((3, 2, 2, 1, 1)))


def timed(policy: TreePolicy, round_s: float) -> TimedRound:
    return TimedRound(policy, policy.num_nodes, policy.num_nodes, policy.depth, round_s, round_s / 4, round_s / 2, 1)


def planted_s(policy: TreePolicy) -> float:
    return PLAIN_S + NODE_S * policy.num_nodes + LEVEL_S * policy.depth


def learned(rounds: list[TimedRound]) -> RoundTimes:
    sums = LocalSums()
    for one in rounds:
        round_s, _ = RoundTimes(sums.view("key")).believed(one)
        sums.add("key", timing_amounts(one, round_s))
    return RoundTimes(sums.view("key"))


def test_planted_costs_are_found() -> None:
    rng = random.Random(0)
    times = learned([timed(arm, planted_s(arm) * rng.uniform(0.8, 1.2)) for arm in ARMS * 100])
    for arm in (*ARMS, chain(3), BestFirst(32, 7)):
        assert times.seconds(arm.num_nodes, arm.depth) == pytest.approx(planted_s(arm), rel=0.06)


def test_a_few_rounds_of_two_arms_tell_roughly_what_the_others_take() -> None:
    times = learned([timed(arm, planted_s(arm)) for arm in (NO_DRAFT, BestFirst(8, 5)) * 2])
    for arm in ARMS:
        assert times.arm_seconds(arm, arm.num_nodes, arm.depth)[0] == pytest.approx(planted_s(arm), rel=0.35)


def test_nothing_known_is_the_prior_in_plain_rounds() -> None:
    times = RoundTimes({})
    assert times.plain_s == 1
    assert 1 < times.seconds(8, 5) < times.seconds(45, 5)


@pytest.mark.parametrize("seed", range(20))
def test_no_part_of_a_round_takes_negative_time(seed: int) -> None:
    rng = random.Random(seed)
    times = learned([timed(rng.choice(ARMS), rng.uniform(0.001, 0.1)) for _ in range(rng.randrange(1, 12))])
    assert times.seconds(0, 0) > 0
    assert times.seconds(1, 0) >= times.seconds(0, 0)
    assert times.seconds(0, 1) >= times.seconds(0, 0)


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
    drafted = TimedRound(chain(4), 4, 4, 4, round_s=0.03, draft_s=0.008, verify_s=0.02, num_sessions=1)
    assert learned([drafted] * 3).level_share == pytest.approx(0.1)


def test_sessions_that_share_passes_count_as_one() -> None:
    alone = learned([timed(ARMS[3], 0.01)] * 4)
    crowd = learned([replace(timed(ARMS[3], 0.01), num_sessions=8)] * 32)
    assert crowd.sums == pytest.approx(alone.sums)


def test_borrowed_rounds_have_the_neighbours_proportions_and_the_own_pace() -> None:
    neighbour = learned([timed(arm, planted_s(arm)) for arm in ARMS * 100])
    own = learned([timed(chain(2), 3 * planted_s(chain(2)))])
    times = RoundTimes(with_borrowed(own.sums, neighbour.sums, 20))
    assert times.num_rounds == pytest.approx(20)
    for arm in ARMS:
        assert times.seconds(arm.num_nodes, arm.depth) == pytest.approx(3 * planted_s(arm), rel=0.1)
