from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from verifier_service.room import Holding, choose_suspended


def num_holders(*sessions):
    counts = Counter(page for pages in sessions for page in pages)
    return lambda page: counts[page]


def test_the_youngest_go_first_and_no_more_than_needed() -> None:
    holdings = [Holding([0, 1], False, 0), Holding([2, 3], True, 0), Holding([4, 5], True, 0)]
    counts = num_holders(*(holding.pages for holding in holdings))
    assert choose_suspended(2, holdings, counts, max_idle_s=5) == [2]
    assert choose_suspended(3, holdings, counts, max_idle_s=5) == [2, 1]


def test_older_sessions_keep_their_pages_and_nobody_is_suspended_in_vain() -> None:
    holdings = [Holding([0, 1], False, 0), Holding([2], True, 0)]
    assert choose_suspended(2, holdings, num_holders([0, 1], [2]), max_idle_s=5) is None


def test_the_long_idle_go_before_all_others_whatever_their_age() -> None:
    holdings = [Holding([0], False, 7), Holding([1], False, 9), Holding([2], True, 0)]
    counts = num_holders([0], [1], [2])
    assert choose_suspended(1, holdings, counts, max_idle_s=5) == [1]
    assert choose_suspended(3, holdings, counts, max_idle_s=5) == [1, 0, 2]


def test_a_shared_page_is_free_when_all_who_share_it_are_suspended() -> None:
    holdings = [Holding([0, 1], True, 0), Holding([0, 2], True, 0)]
    assert choose_suspended(3, holdings, num_holders([0, 1], [0, 2]), max_idle_s=5) == [1, 0]
    assert choose_suspended(3, holdings, num_holders([0, 1], [0, 2], [0]), max_idle_s=5) is None


@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=5), max_size=6), st.integers(1, 10))
def test_the_oldest_can_always_have_what_the_others_hold(sessions, num_missing) -> None:
    holdings = [Holding(pages, True, 0) for pages in sessions]
    chosen = choose_suspended(num_missing, holdings, num_holders(*sessions), max_idle_s=5)
    assert (chosen is not None) == (len({page for pages in sessions for page in pages}) >= num_missing)
