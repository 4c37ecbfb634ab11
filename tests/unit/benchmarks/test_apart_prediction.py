"""What is made of the capacity measurement."""

import pytest

from benchmarks.apart_capacity import CO_LOCATED, OFF, REMOTE, Cell
from benchmarks.apart_prediction import CHAIN, capacity, gains

CURVE = {1: 100.0, 2: 160.0, 4: 200.0}  # a client gets 100, 80, 50


@pytest.mark.parametrize(("floor", "clients"), [(100, 1), (90, 1.5), (80, 2), (65, 3), (56, 3.6)])
def test_between_two_measured_numbers_what_a_client_gets_falls_linearly(floor: float, clients: float) -> None:
    assert capacity(CURVE, floor) == pytest.approx(clients)


def test_where_one_client_alone_gets_less_nobody_can_be_served() -> None:
    assert capacity(CURVE, 101) == 0


def test_where_the_most_get_more_the_capacity_is_not_known() -> None:
    assert capacity(CURVE, 49) == float("inf")


def cell(placement: str, num_tokens: int, *, verifier: float, drafter: float) -> Cell:
    return Cell(placement, CHAIN, 1, 1.0, num_tokens, busy={"verifier": verifier, "drafter": drafter})


def test_a_full_core_gains_what_was_predicted_when_the_drafter_leaves_it() -> None:
    apart = cell(REMOTE[0].name, 125, verifier=1.0, drafter=0.25)
    together = cell(CO_LOCATED.name, 100, verifier=0.8, drafter=0.2)
    (gain,) = gains([apart, together, Cell(OFF, OFF, 1, 1.0, 50)])
    assert gain.predicted == gain.measured == gain.per_computed_s == pytest.approx(1.25)


def test_a_core_that_is_not_full_gains_per_second_that_it_computes() -> None:
    apart = cell(REMOTE[0].name, 50, verifier=0.4, drafter=0.1)
    together = cell(CO_LOCATED.name, 50, verifier=0.4, drafter=0.1)
    (gain,) = gains([apart, together])
    assert (gain.measured, gain.per_computed_s) == (1.0, pytest.approx(1.25))
