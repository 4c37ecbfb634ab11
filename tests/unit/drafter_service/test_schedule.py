from hypothesis import given
from hypothesis import strategies as st

from drafter_service.schedule import share_reading

WAITING = st.lists(st.integers(0, 500), max_size=12)


@given(WAITING, st.integers(1, 300))
def test_no_more_is_read_than_there_is_and_than_a_turn_may_take(num_waiting: list[int], max_tokens: int) -> None:
    shares = share_reading(num_waiting, max_tokens)
    assert all(0 <= share <= number for share, number in zip(shares, num_waiting, strict=True))
    assert sum(shares) == min(max_tokens, sum(num_waiting))


@given(WAITING, st.integers(1, 300), st.integers(1, 500))
def test_whoever_has_waited_longest_gets_half_whatever_the_others_want(
    others: list[int], max_tokens: int, num_own: int
) -> None:
    assert share_reading([num_own, *others], max_tokens)[0] >= min(num_own, (max_tokens + 1) // 2)


def test_a_short_text_does_not_wait_behind_a_long_one() -> None:
    assert share_reading([1000, 10], 128) == [118, 10]


def test_nobody_starves_while_short_texts_keep_coming() -> None:
    long = 1000
    for _ in range(2 * 1000 // 128 + 2):
        long -= share_reading([long, *[100] * 20], 128)[0]
    assert long == 0


def test_where_nobody_reads_nothing_is_shared() -> None:
    assert share_reading([0, 0], 64) == [0, 0]
    assert share_reading([], 64) == []
