"""Who is the least busy, as far as can be known."""

from collections import Counter

import pytest

from orchestrator.routing import Load, LoadReport, estimated_load, is_worth_it, power_of_two


def report(num_sessions: int = 0, max_sessions: int = 10, num_waiting: int = 0, own: int = 0) -> LoadReport:
    return LoadReport(num_sessions, max_sessions, num_waiting, own, at_s=100)


def load(told: LoadReport | None, *, own: int = 0, age_s: float = 0) -> Load:
    return estimated_load(told, num_own_sessions=own, now_s=100 + age_s)


def test_of_a_replica_that_never_replied_only_our_own_sessions_are_known() -> None:
    assert load(None, own=3) == (False, 3)


def test_sessions_of_others_and_what_waits_come_on_top_of_our_own() -> None:
    assert load(report(num_sessions=5, own=2, num_waiting=1), own=2) == (False, 6)


@pytest.mark.parametrize(("own_now", "estimate"), [(2, 5), (6, 9), (0, 3)])
def test_sessions_that_we_opened_or_closed_since_the_report_count_at_once(own_now: int, estimate: int) -> None:
    assert load(report(num_sessions=5, own=2), own=own_now).num_requests == estimate


def test_what_a_report_says_of_others_fades_and_our_own_sessions_do_not() -> None:
    told = report(num_sessions=9, own=1)
    loads = [load(told, own=1, age_s=age_s).num_requests for age_s in (0, 5, 10, 1000)]
    assert loads == pytest.approx([9, 5, 3, 1])


def test_a_replica_that_reported_less_than_we_know_is_not_taken_for_emptier() -> None:
    assert load(report(num_sessions=0, own=3), own=3).num_requests == 3


@pytest.mark.parametrize(
    ("told", "own", "age_s", "is_full"),
    [
        (report(num_sessions=10), 0, 0, True),
        (report(num_sessions=10), 0, 5, False),
        (report(num_sessions=9), 0, 0, False),
        (report(num_sessions=9), 1, 0, True),
        (report(num_sessions=10, own=1), 0, 0, False),
        (report(num_sessions=10, max_sessions=0), 0, 0, False),
    ],
    ids=["full", "was full", "not full", "filled by us since", "a place freed since", "says no limit"],
)
def test_a_replica_is_full_when_it_said_so_lately(told: LoadReport, own: int, age_s: float, is_full: bool) -> None:
    assert load(told, own=own, age_s=age_s).is_full is is_full


def test_the_busiest_of_three_is_never_chosen_and_the_others_both_are() -> None:
    loads = {"idle": Load(False, 0), "busy": Load(False, 5), "busiest": Load(False, 6)}
    chosen = Counter(power_of_two(list(loads), loads.__getitem__) for _ in range(300))
    assert chosen.keys() == {"idle", "busy"}


def test_a_full_replica_is_chosen_only_where_all_are_full() -> None:
    loads = {"full": Load(True, 0), "busy": Load(False, 50)}
    assert {power_of_two(list(loads), loads.__getitem__) for _ in range(50)} == {"busy"}
    assert power_of_two(["full"], loads.__getitem__) == "full"


def test_equally_loaded_replicas_share() -> None:
    chosen = Counter(power_of_two("abcd", lambda _: Load(False, 1)) for _ in range(400))
    assert min(chosen.values()) > 40


def test_two_choices_keep_the_most_loaded_of_many_near_the_mean() -> None:
    num = dict.fromkeys(range(50), 0)
    for _ in range(5000):
        num[power_of_two(list(num), lambda replica: Load(False, num[replica]))] += 1
    assert max(num.values()) <= 110


@pytest.mark.parametrize(
    ("holder", "least", "expected"),
    [
        (Load(False, 0), 0, True),
        (Load(False, 2), 0, True),
        (Load(False, 3), 0, False),
        (Load(False, 12), 8, True),
        (Load(False, 13), 8, False),
        (Load(True, 0), 0, False),
    ],
)
def test_a_prefix_is_worth_a_quarter_and_two_requests_more_and_never_a_full_replica(
    holder: Load, least: float, expected: bool
) -> None:
    assert is_worth_it(holder, [holder, Load(False, least)]) is expected
