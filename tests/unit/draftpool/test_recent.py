"""What happened lately, in numbers that fade."""

import math

import pytest

from draftpool.recent import RecentMean, RecentShare


def test_what_was_never_used_has_no_share_and_what_was_never_observed_no_mean() -> None:
    assert RecentShare().at(5.0) == RecentMean().at(5.0) == 0.0


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_use_at_a_steady_rate_is_told_as_that_rate(share: float) -> None:
    recent = RecentShare(fading_s=10.0)
    for turn in range(10_000):
        recent.add(0.01 * turn, 0.01 * (turn + share))
    assert recent.at(100.0) == pytest.approx(share, rel=0.01)


def test_the_weight_of_a_use_says_how_much_of_it_was_used() -> None:
    recent = RecentShare(fading_s=10.0)
    for turn in range(10_000):
        recent.add(0.01 * turn, 0.01 * (turn + 0.5), weight=0.5)
    assert recent.at(100.0) == pytest.approx(0.25, rel=0.01)


def test_a_share_fades_when_use_ends_and_one_long_use_counts_like_many_short_ones() -> None:
    recent = RecentShare(fading_s=10.0)
    recent.add(0.0, 10.0)
    assert recent.at(10.0) == pytest.approx(1 - math.exp(-1))
    assert recent.at(110.0) < 1e-4


def test_use_without_a_pause_is_a_share_of_one_and_never_more() -> None:
    recent = RecentShare()
    for second in range(1000):
        recent.add(float(second), second + 1.0)
        recent.add(second + 1.0, second + 1.0)
    assert recent.at(1000.0) == pytest.approx(1.0)
    assert recent.at(1000.0) <= 1 + 1e-9


def test_a_mean_follows_what_is_new_and_goes_to_zero_when_nothing_comes() -> None:
    mean = RecentMean(fading_s=10.0)
    for second in range(100):
        mean.observe(1.0, float(second))
    for second in range(100, 200):
        mean.observe(3.0, float(second))
    assert mean.at(200.0) == pytest.approx(3.0, rel=0.01)
    assert mean.at(300.0) < 0.01


def test_a_mean_of_few_observations_is_theirs() -> None:
    mean = RecentMean(fading_s=10.0)
    mean.observe(2.0, 0.0)
    mean.observe(4.0, 0.0)
    assert mean.at(0.0) == 3.0
