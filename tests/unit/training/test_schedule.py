"""The learning-rate factor rises, stays and falls, and a change of budget never makes it jump."""

import itertools

import pytest

from training.schedule import WARMUP_TOKENS, Schedule

TOTAL = 6_000_000


def test_the_factor_rises_from_nearly_zero_to_one():
    schedule = Schedule.over(TOTAL)
    assert 0 < schedule.factor(0) < 1e-4
    assert schedule.factor(WARMUP_TOKENS) == 1.0


def test_the_factor_is_zero_when_the_budget_is_spent():
    schedule = Schedule.over(TOTAL)
    assert schedule.factor(TOTAL) == 0.0
    assert schedule.factor(TOTAL + 1000) == 0.0


def test_the_factor_never_rises_after_warmup():
    factors = [Schedule.over(TOTAL).factor(seen) for seen in range(WARMUP_TOKENS, TOTAL, 50_000)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors))


def test_the_same_budget_keeps_the_schedule():
    schedule = Schedule.over(TOTAL)
    assert schedule.with_budget(TOTAL, TOTAL // 2) == schedule


@pytest.mark.parametrize("seen", [500_000, 1_500_000])
def test_a_smaller_budget_decays_at_once_from_the_full_factor(seen):
    schedule = Schedule.over(TOTAL).with_budget(seen + 400_000, seen)
    assert schedule.factor(seen) == 1.0
    assert schedule.factor(seen + 200_000) == pytest.approx(0.5)
    assert schedule.factor(seen + 400_000) == 0.0


@pytest.mark.parametrize("new_total", [4_000_000, 5_000_000, 8_000_000])
def test_a_change_of_budget_during_the_decay_does_not_move_the_factor(new_total):
    schedule = Schedule.over(TOTAL)
    seen = 3_500_000
    changed = schedule.with_budget(new_total, seen)
    assert changed.factor(seen) == pytest.approx(schedule.factor(seen))
    assert changed.factor(new_total) == 0.0
