"""What a replica believes of a group, and what it sends, without a Redis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sharing.delta import Delta
from orchestrator.sharing.shared_group import PATIENCE_S, SharedGroup, Snapshot

AMOUNTS = st.dictionaries(st.sampled_from("abc"), st.floats(-100, 100), max_size=3)
KEEPS = st.floats(0.01, 1)


def snapshot(**sums: float) -> Snapshot:
    return Snapshot({f"s:{name}".encode(): repr(value).encode() for name, value in sums.items()})


@given(st.lists(st.tuples(KEEPS, AMOUNTS), max_size=8), AMOUNTS)
def test_one_delta_does_what_its_changes_do_one_by_one(changes: list[tuple[float, dict[str, float]]], start) -> None:
    one_by_one, at_once, delta = dict(start), dict(start), Delta()
    for keep, amounts in changes:
        one_by_one = {name: value * keep for name, value in one_by_one.items()}
        one_by_one |= {name: one_by_one.get(name, 0) + amount for name, amount in amounts.items()}
        delta.then(keep, amounts)
    delta.apply_to(at_once)
    assert at_once == pytest.approx(one_by_one)


@given(st.lists(st.one_of(st.tuples(KEEPS, AMOUNTS), st.sampled_from(["send", "refuse"]))))
def test_whatever_is_on_its_way_the_view_is_all_that_was_added(events: list) -> None:
    group, expected, time_s = SharedGroup(), {}, 0.0
    for event in events:
        time_s += 1
        if event == "send":
            group.send(time_s)
        elif event == "refuse":
            group.refuse()
        else:
            keep, amounts = event
            group.add(amounts, keep)
            expected = {name: value * keep for name, value in expected.items()}
            expected |= {name: expected.get(name, 0) + amount for name, amount in amounts.items()}
        assert group.view == pytest.approx(expected)


def test_a_snapshot_replaces_what_was_sent_and_leaves_what_was_not() -> None:
    group = SharedGroup()
    group.add({"n": 1}, 1.0)
    group.send(0.0)
    group.add({"n": 10}, 0.5)
    group.acknowledge(snapshot(n=101), 1.0)
    assert group.view == {"n": 101 * 0.5 + 10}
    assert group.send(2.0).delta == Delta(0.5, {"n": 10})


def test_what_was_not_answered_is_sent_again_alike_and_what_came_later_waits() -> None:
    group = SharedGroup()
    group.add({"n": 1}, 1.0)
    first = group.send(0.0)
    group.add({"n": 10}, 1.0)
    again = group.send(1.0)
    assert (again.number, again.delta) == (first.number, first.delta) == (1, Delta(1.0, {"n": 1}))
    group.acknowledge(snapshot(n=1), 1.0)
    assert group.send(2.0).number == 2


def test_what_was_refused_at_once_is_sent_with_the_rest() -> None:
    group = SharedGroup()
    group.add({"n": 1}, 1.0)
    group.send(0.0)
    group.add({"n": 10}, 0.5)
    group.refuse()
    assert group.send(1.0).delta == Delta(0.5, {"n": 10.5})


def test_what_may_have_arrived_before_it_was_refused_is_not_changed() -> None:
    group = SharedGroup()
    group.add({"n": 1}, 1.0)
    first = group.send(0.0)
    group.send(1.0)
    group.refuse()
    group.add({"n": 10}, 1.0)
    assert group.send(2.0).number == first.number


def test_what_may_have_arrived_long_ago_is_given_up_and_the_rest_goes_on() -> None:
    group = SharedGroup()
    group.add({"n": 1}, 1.0)
    group.send(0.0)
    group.add({"n": 10}, 1.0)
    late = group.send(PATIENCE_S + 1)
    assert (late.number, late.delta) == (2, Delta(1.0, {"n": 10}))
    assert group.view == {"n": 10}


def test_a_group_is_asked_for_when_it_changed_or_is_used_and_old() -> None:
    group = SharedGroup()
    assert not group.is_due(oldest_s=0.0)
    group.was_used = True
    assert group.is_due(oldest_s=0.0)
    group.acknowledge(snapshot(), now_s=5.0)
    assert not group.is_due(oldest_s=6.0)
    group.was_used = True
    assert not group.is_due(oldest_s=4.0)
    assert group.is_due(oldest_s=6.0)
    group.acknowledge(snapshot(), now_s=7.0)
    group.add({"n": 1}, 1.0)
    assert group.is_due(oldest_s=6.0)
