"""What passes cost, learned."""

import random

import pytest

from orchestrator.bandit.passes import PassCosts, VerifyPass, pass_amounts
from orchestrator.bandit.sums import LocalSums

BASE_S, ROW_S = 0.010, 0.0004


def learned(passes: list[VerifyPass]) -> PassCosts:
    sums = LocalSums()
    for one in passes:
        for _ in range(one.num_sessions):  # each of them tells
            sums.add("key", pass_amounts(PassCosts(sums.view("key")).believed(one)))
    return PassCosts(sums.view("key"))


def planted(num_sessions: int, num_rows: int, noise: float = 1.0) -> VerifyPass:
    return VerifyPass(num_sessions, num_rows, (BASE_S + ROW_S * num_rows) * noise)


def test_planted_costs_are_found_from_passes_that_differ_in_sessions_alone() -> None:
    rng = random.Random(0)
    costs = learned([planted(number, number, rng.uniform(0.8, 1.2)) for number in (1, 4, 16, 64) * 20])
    price = costs.node_price(16, 64)
    assert price.seconds == pytest.approx(16 * ROW_S, rel=0.1)
    assert price.least_s == pytest.approx(BASE_S + 64 * ROW_S, rel=0.1)
    assert price.least_node_s == pytest.approx(64 * ROW_S, rel=0.1)


def test_a_pass_counts_once_however_many_sessions_tell_of_it() -> None:
    assert learned([planted(32, 64)]).sums == pytest.approx(learned([planted(1, 64)]).sums)


def test_passes_that_are_all_alike_leave_the_price_of_a_row_open() -> None:
    alike, different = learned([planted(1, 1)] * 100), learned([planted(1, 1), planted(1, 17)] * 50)
    assert alike.node_price(1, 1).weight < 0.1 * different.node_price(1, 1).weight
    assert 0 < alike.node_price(1, 1).seconds < 0.1 * BASE_S


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_negative_whatever_was_timed(seed: int) -> None:
    rng = random.Random(seed)
    passes = [VerifyPass(1, rng.randint(1, 50), rng.uniform(0.001, 0.1)) for _ in range(rng.randint(1, 6))]
    assert min(learned(passes).node_price(4, 8)) >= 0


def test_a_stalled_pass_counts_as_a_slow_one() -> None:
    passes = [planted(number, number) for number in (1, 4, 16) * 20]
    before, after = learned(passes).node_price(4, 4), learned([*passes, VerifyPass(1, 1, 60.0)]).node_price(4, 4)
    assert after.seconds == pytest.approx(before.seconds, rel=0.2)
