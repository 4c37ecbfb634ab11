"""Sums that fade, against a definition by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bandit.sums import LocalSums

AMOUNTS = st.dictionaries(st.sampled_from("abc"), st.floats(-10, 10), max_size=3)


def test_a_group_nobody_has_added_to_is_empty() -> None:
    assert LocalSums().view("key") == {}


@given(st.lists(st.tuples(AMOUNTS, st.floats(0.1, 1.0)), max_size=12))
def test_a_sum_is_every_amount_times_all_that_was_kept_after_it(steps: list[tuple[dict[str, float], float]]) -> None:
    sums = LocalSums()
    for amounts, keep in steps:
        sums.add("key", amounts, keep=keep)
    for name in "abc":
        by_hand = 0.0
        for index, (amounts, _) in enumerate(steps):
            kept = 1.0
            for _, keep in steps[index + 1 :]:
                kept *= keep
            by_hand += amounts.get(name, 0.0) * kept
        assert sums.view("key").get(name, 0.0) == pytest.approx(by_hand, abs=1e-9)


def test_groups_fade_apart() -> None:
    sums = LocalSums()
    sums.add("one", {"a": 8.0})
    sums.add("other", {"a": 8.0}, keep=0.5)
    sums.add("other", {"b": 1.0}, keep=0.5)
    assert (sums.view("one"), sums.view("other")) == ({"a": 8.0}, {"a": 4.0, "b": 1.0})
