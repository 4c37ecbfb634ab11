"""When a client tries again, how soon, and when it gives up."""

import pytest

from draftpool.errors import (
    BadParameter,
    ConnectionLost,
    DeadlineExceeded,
    DraftpoolError,
    Draining,
    InternalError,
    NoCapacity,
    NoSecureConnection,
    NothingAnswers,
    Unavailable,
    UnknownModel,
)
from draftpool.patience import Patience, Retries


class Attempts:
    """Retries with a clock that the pauses move, and dice that never add anything."""

    def __init__(self, lost_s: float = 30.0, full_s: float = 0.0, dice: float = 0.0, was_reached: bool = False) -> None:
        self.now_s = 0.0
        self.retries = Retries(
            Patience(lost_s, full_s), was_reached=was_reached, clock=lambda: self.now_s, dice=lambda: dice
        )

    def fail(self, error: DraftpoolError) -> float:
        pause_s = self.retries.pause_s(error)
        self.now_s += pause_s
        return pause_s

    def fail_until_it_gives_up(self, error: DraftpoolError) -> float:
        with pytest.raises(type(error)):
            while True:
                self.fail(error)
        return self.now_s


@pytest.mark.parametrize("loss", [ConnectionLost("x"), Draining("x")])
def test_after_a_loss_the_pauses_grow_until_patience_ends(loss: DraftpoolError) -> None:
    attempts = Attempts(lost_s=10)
    assert [round(attempts.fail(loss), 1) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert 8 <= attempts.fail_until_it_gives_up(loss) <= 10


@pytest.mark.parametrize("error", [NothingAnswers("x"), Unavailable("x"), UnknownModel("x"), NoCapacity("x")])
def test_what_a_server_says_that_is_just_as_lost_counts_only_after_a_loss(error: DraftpoolError) -> None:
    with pytest.raises(type(error)):
        Attempts().fail(error)
    attempts = Attempts()
    attempts.fail(ConnectionLost("x"))
    assert attempts.fail(error) > 0


@pytest.mark.parametrize("error", [NothingAnswers("x"), NoSecureConnection("x")])
def test_a_server_that_has_answered_before_is_lost_where_one_that_never_did_is_a_wrong_address(
    error: DraftpoolError,
) -> None:
    with pytest.raises(type(error)):
        Attempts().fail(error)
    assert Attempts(lost_s=10, was_reached=True).fail_until_it_gives_up(error) >= 8
    with pytest.raises(NoCapacity):
        Attempts(was_reached=True).fail(NoCapacity("x"))


@pytest.mark.parametrize("error", [BadParameter("x"), DeadlineExceeded("x"), InternalError("x")])
def test_an_answer_is_an_answer_even_after_a_loss(error: DraftpoolError) -> None:
    attempts = Attempts()
    attempts.fail(ConnectionLost("x"))
    with pytest.raises(type(error)):
        attempts.fail(error)


def test_a_reply_renews_patience_and_makes_a_loss_forgotten() -> None:
    attempts = Attempts(lost_s=3)
    for _ in range(20):
        assert attempts.fail(ConnectionLost("x")) == pytest.approx(0.1)
        attempts.retries.progress()
    with pytest.raises(Unavailable):
        attempts.fail(Unavailable("no verifier"))


def test_no_patience_is_no_second_attempt() -> None:
    with pytest.raises(ConnectionLost):
        Attempts(lost_s=0).fail(ConnectionLost("x"))


def test_the_time_that_a_server_names_is_kept_and_a_little_more() -> None:
    full = NoCapacity("x", retry_after_s=4)
    assert Attempts(full_s=60).fail(full) == 4
    assert 4 < Attempts(full_s=60, dice=0.99).fail(full) < 6


def test_where_there_is_no_capacity_a_client_waits_if_it_was_told_to() -> None:
    full = NoCapacity("x", retry_after_s=4)
    with pytest.raises(NoCapacity):
        Attempts().fail(full)
    assert Attempts(full_s=20).fail_until_it_gives_up(full) == 20


def test_a_time_beyond_patience_is_not_waited_for() -> None:
    assert Attempts(full_s=3).fail_until_it_gives_up(NoCapacity("x", retry_after_s=4)) == 0
