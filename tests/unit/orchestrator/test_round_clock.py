import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.round_clock import PlainRoundClock

durations = st.floats(1e-4, 10)


def test_nothing_is_known_before_the_first_round() -> None:
    assert PlainRoundClock().plain_round_s is None


@given(st.lists(durations, min_size=1))
def test_the_mean_is_among_the_rounds_seen(rounds: list[float]) -> None:
    clock = PlainRoundClock()
    for elapsed_s in rounds:
        clock.observe(elapsed_s, num_nodes=0)
    assert clock.plain_round_s is not None
    assert min(rounds) * (1 - 1e-9) <= clock.plain_round_s <= max(rounds) * (1 + 1e-9)


@given(durations, durations)
def test_a_lasting_change_is_followed_within_forty_rounds(before: float, after: float) -> None:
    clock = PlainRoundClock()
    for elapsed_s in [*[before] * 50, *[after] * 40]:
        clock.observe(elapsed_s, num_nodes=0)
    assert clock.plain_round_s is not None
    assert clock.plain_round_s <= after + 0.02 * before
    assert clock.plain_round_s >= min(after / 2, before)


def test_one_stalled_round_raises_the_mean_by_no_more_than_a_third() -> None:
    clock = PlainRoundClock()
    for elapsed_s in [*[0.01] * 20, 60.0]:
        clock.observe(elapsed_s, num_nodes=0)
    assert clock.plain_round_s is not None
    assert clock.plain_round_s < 0.0135


def test_rounds_with_a_draft_only_bound_the_mean_from_above() -> None:
    clock = PlainRoundClock()
    clock.observe(0.03, num_nodes=8)
    assert clock.plain_round_s == 0.03
    clock.observe(0.01, num_nodes=0)
    assert clock.plain_round_s == pytest.approx(0.01)
    clock.observe(0.05, num_nodes=8)
    assert clock.plain_round_s == pytest.approx(0.01)
    clock.observe(0.008, num_nodes=8)
    assert clock.plain_round_s < 0.01
