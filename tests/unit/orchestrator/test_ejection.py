"""How long replicas that fail sit out, on a clock driven by hand."""

import pytest

from orchestrator.ejection import EjectionPolicy, FailureRecord, may_return

POLICY = EjectionPolicy(first_s=1, max_s=10, max_share=0.5, jitter=0, num_forgiving=3)


def record(*failures_at_s: float, policy: EjectionPolicy = POLICY) -> FailureRecord:
    made = FailureRecord(policy)
    for at_s in failures_at_s:
        made.fail(at_s)
    return made


def test_each_further_failure_doubles_the_time_up_to_the_longest() -> None:
    failing, times = FailureRecord(POLICY), []
    for _ in range(6):
        failing.fail(100)
        times.append(failing.ejected_until_s - 100)
    assert times == [1, 2, 4, 8, 10, 10]


def test_no_number_of_failures_is_too_large() -> None:
    assert record(*[0] * 2000).ejected_until_s == 10


def test_jitter_stretches_a_time_and_never_shortens_it() -> None:
    policy = EjectionPolicy(first_s=1, jitter=0.5)
    times = [record(0, policy=policy).ejected_until_s for _ in range(200)]
    assert 1 <= min(times) < max(times) <= 1.5


def test_successes_in_a_row_take_back_one_failure_after_the_other() -> None:
    failing = record(0, 0, 0)
    for num_left in (2, 1, 0, 0):
        for _ in range(POLICY.num_forgiving):
            failing.succeed()
        assert failing.num_failures == num_left


def test_a_failure_among_successes_starts_the_row_anew() -> None:
    failing = record(0)
    for _ in range(10):
        failing.succeed()
        failing.succeed()
        failing.fail(0)
    assert failing.num_failures == 11


def test_a_time_out_is_sat_out_where_others_are_up() -> None:
    failing = record(0, 0)
    pool = [failing, record(), record()]
    assert [may_return(failing, pool, num_others_up=2, now_s=now) for now in (0, 1.9, 2)] == [False, False, True]


@pytest.mark.parametrize("num_others", [0, 3])
def test_where_no_other_is_up_a_replica_comes_back_after_a_moment(num_others: int) -> None:
    failing = record(*[0] * 9)
    pool = [failing, *(record(0, 0) for _ in range(num_others))]
    assert not may_return(failing, pool, num_others_up=0, now_s=0.99)
    assert may_return(failing, pool, num_others_up=0, now_s=1)


def test_the_moment_grows_with_the_failures_too() -> None:
    moments = [record(*[0] * num_failures).resting_until_s for num_failures in (1, 2, 3, 4, 5)]
    assert moments == [0.125, 0.25, 0.5, 1, 1]


@pytest.mark.parametrize(("num_members", "num_sitting_out"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_only_a_share_of_a_pool_sits_out_at_once_those_who_failed_most(num_members: int, num_sitting_out: int) -> None:
    pool = [FailureRecord(POLICY, ejected_until_s=100 + index) for index in range(num_members)]
    sitting_out = [member for member in pool if not may_return(member, pool, num_others_up=1, now_s=50)]
    assert sitting_out == pool[num_members - num_sitting_out :]


def test_a_replica_that_never_failed_may_always_be_visited() -> None:
    assert may_return(record(), [record()], num_others_up=0, now_s=0)
