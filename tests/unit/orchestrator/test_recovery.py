import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import ContextLost, DraftpoolError, NoCapacity, Unavailable, UnknownModel
from orchestrator.recovery import Recovery


def pauses(errors: list[DraftpoolError], *, has_another: bool, patience_s: float = 1e9) -> list[float]:
    recovery, now_s, found = Recovery(patience_s), 100.0, []
    for error in errors:
        found.append(recovery.pause_s(error, has_another=has_another, now_s=now_s))
        now_s += found[-1]
    return found


@pytest.mark.parametrize("error", [Unavailable("gone"), NoCapacity("full", retry_after_s=9), UnknownModel("other")])
def test_while_there_is_another_replica_it_is_tried_at_once(error: DraftpoolError) -> None:
    assert pauses([error] * 4, has_another=True) == [0] * 4


def test_without_another_pauses_grow_to_a_quarter_of_a_second_and_a_bit() -> None:
    found = pauses([Unavailable("gone")] * 12, has_another=False)
    assert 0.05 <= found[0] <= 0.075
    assert all(0.25 <= pause_s <= 0.375 for pause_s in found[4:])


@given(st.floats(0.3, 20))
def test_a_full_service_is_left_alone_for_as_long_as_it_says(hint_s: float) -> None:
    (pause_s,) = pauses([NoCapacity("full", retry_after_s=hint_s)], has_another=False)
    assert hint_s <= pause_s <= 1.5 * hint_s


def test_requests_that_failed_together_do_not_come_back_together() -> None:
    assert len({pauses([Unavailable("gone")], has_another=False)[0] for _ in range(20)}) > 10


def test_a_lost_context_is_sent_again_at_once_and_then_with_pauses_and_then_no_more() -> None:
    found = pauses([ContextLost("evicted")] * 8, has_another=True)
    assert found[:2] == [0, 0]
    assert all(found[2:])
    with pytest.raises(ContextLost):
        pauses([ContextLost("evicted")] * 9, has_another=True)


def test_contexts_lost_now_and_then_are_no_reason_to_give_up() -> None:
    pauses([*[ContextLost("evicted")] * 8, Unavailable("gone")] * 5, has_another=True)


@given(st.floats(0, 50))
def test_patience_ends_with_the_last_error_and_a_hint(patience_s: float) -> None:
    recovery, now_s = Recovery(patience_s), 7.0
    with pytest.raises(Unavailable) as raised:
        for _ in range(10_000):
            now_s += recovery.pause_s(Unavailable("gone"), has_another=False, now_s=now_s)
    assert now_s <= 7.0 + patience_s
    assert now_s >= 7.0 + patience_s - 0.375
    assert raised.value.retry_after_s
