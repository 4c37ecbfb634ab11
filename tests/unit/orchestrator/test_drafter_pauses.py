import pytest

from draftpool.errors import (
    BadParameter,
    BrokenReply,
    ContextLost,
    DraftpoolError,
    NoCapacity,
    Unavailable,
    UnknownVocabulary,
)
from orchestrator.drafter_pauses import DrafterPauses


def pause_s(pauses: DrafterPauses[str], drafter: str = "a", now_s: float = 50.0) -> float:
    """To within a hundredth of a second."""
    return next(step / 100 for step in range(10_000) if pauses.is_over(drafter, now_s + step / 100))


@pytest.mark.parametrize("error", [Unavailable("gone"), BrokenReply("what?"), BadParameter("no"), NoCapacity("full")])
def test_pauses_double_with_every_failure_in_a_row_up_to_sixteen_seconds(error: DraftpoolError) -> None:
    pauses, found = DrafterPauses[str](), []
    for _ in range(7):
        pauses.fail("a", error, 50.0)
        found.append(pause_s(pauses))
    assert found == [1, 2, 4, 8, 16, 16, 16]


def test_a_success_forgives_everything() -> None:
    pauses = DrafterPauses[str]()
    for _ in range(4):
        pauses.fail("a", Unavailable("gone"), 50.0)
    pauses.succeed("a")
    assert pause_s(pauses) == 0
    pauses.fail("a", Unavailable("gone"), 50.0)
    assert pause_s(pauses) == 1


def test_a_full_drafter_is_left_alone_for_as_long_as_it_says() -> None:
    pauses = DrafterPauses[str]()
    for _ in range(3):
        pauses.fail("a", NoCapacity("full", retry_after_s=2.5), 50.0)
    assert pause_s(pauses) == 2.5


@pytest.mark.parametrize("error", [ContextLost("evicted"), UnknownVocabulary("register it")])
def test_one_that_forgot_is_told_again_at_once_but_not_for_ever(error: DraftpoolError) -> None:
    pauses, found = DrafterPauses[str](), []
    for _ in range(4):
        pauses.fail("a", error, 50.0)
        found.append(pause_s(pauses))
    assert found == [0, 0, 1, 2]


def test_drafters_do_not_answer_for_each_other() -> None:
    pauses = DrafterPauses[str]()
    pauses.fail("a", Unavailable("gone"), 50.0)
    assert pauses.is_over("b", 50.0)
    assert not pauses.is_over("a", 50.0)
