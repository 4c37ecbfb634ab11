import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import BadParameter
from verifier_service.schedule import PassLimits, Share, Want, divide_prefill, plan_pass

LIMITS = PassLimits(max_pass_tokens=40, prefill_chunk_tokens=16)
wants = st.lists(st.builds(Want, num_pending=st.integers(1, 60), num_nodes=st.integers(0, 23)), max_size=12)


def num_tokens(want: Want, share: Share) -> int:
    return share.num_committed + (want.num_nodes if share.is_last else 0)


@given(wants)
def test_a_pass_keeps_within_its_limits(waiting) -> None:
    shares = plan_pass(waiting, LIMITS)
    assert sum(num_tokens(waiting[share.request], share) for share in shares) <= 40
    assert sum(share.num_committed - share.is_last for share in shares) <= 16
    assert [share.request for share in shares] == sorted({share.request for share in shares})


@given(wants)
def test_a_share_is_what_was_wanted_or_an_honest_part_of_it(waiting) -> None:
    for share in plan_pass(waiting, LIMITS):
        num_pending = waiting[share.request].num_pending
        assert share.is_last == (share.num_committed == num_pending)
        assert 1 <= share.num_committed <= num_pending


@given(wants.filter(bool))
def test_the_first_in_line_always_gets_on(waiting) -> None:
    first = plan_pass(waiting, LIMITS)[0]
    assert first.request == 0
    assert first.is_last or first.num_committed >= 8


def test_a_long_prompt_goes_in_chunks_and_the_others_go_along() -> None:
    waiting = [Want(num_pending=100, num_nodes=0), Want(num_pending=1, num_nodes=6), Want(num_pending=1, num_nodes=0)]
    assert plan_pass(waiting, LIMITS) == [Share(0, 16, False), Share(1, 1, True), Share(2, 1, True)]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    waiting = [
        Want(num_pending=1000, num_nodes=0),
        Want(num_pending=900, num_nodes=0),
        Want(num_pending=6, num_nodes=3),
    ]
    assert plan_pass(waiting, LIMITS) == [Share(0, 8, False), Share(1, 3, False), Share(2, 6, True)]


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 40))
def test_all_prefill_tokens_of_a_pass_are_given_away_and_none_unasked(wanted, num_tokens) -> None:
    granted = divide_prefill(wanted, num_tokens)
    assert sum(granted) == min(num_tokens, sum(wanted))
    assert all(0 <= given <= asked for given, asked in zip(granted, wanted, strict=True))


def test_of_two_long_prompts_the_first_is_served_first() -> None:
    waiting = [Want(num_pending=20, num_nodes=0), Want(num_pending=50, num_nodes=0)]
    assert plan_pass(waiting, LIMITS) == [Share(0, 16, False)]
    assert plan_pass([Want(num_pending=4, num_nodes=0), waiting[1]], LIMITS) == [Share(0, 4, True), Share(1, 13, False)]


def test_a_tree_that_does_not_fit_waits_whole_while_a_smaller_one_goes() -> None:
    waiting = [Want(1, 20), Want(1, 20), Want(1, 10)]
    assert plan_pass(waiting, LIMITS) == [Share(0, 1, True), Share(2, 1, True)]


def test_nobody_starves_whoever_comes_behind() -> None:
    """Newcomers with shorter prompts want as much as they can in every pass; half of it is still the long one's."""
    num_pending, num_passes = 100, 0
    while num_pending:
        share = plan_pass([Want(num_pending, 0), Want(17, 22), Want(1, 22)], LIMITS)[0]
        num_pending -= share.num_committed
        num_passes += 1
    assert num_passes == 12


@pytest.mark.parametrize("chunk", [0, 40, 41])
def test_a_pass_needs_room_for_prefill_and_for_the_rest(chunk) -> None:
    with pytest.raises(BadParameter, match="prefill_chunk_tokens"):
        PassLimits(max_pass_tokens=40, prefill_chunk_tokens=chunk)


def test_a_pass_is_as_full_as_the_fuller_of_its_two_budgets() -> None:
    limits = PassLimits(max_pass_tokens=100, prefill_chunk_tokens=20)
    assert limits.budget_share(num_tokens=50, num_prefill_tokens=0) == 0.5
    assert limits.budget_share(num_tokens=20, num_prefill_tokens=20) == 1.0
    assert limits.budget_share(num_tokens=0, num_prefill_tokens=0) == 0.0
