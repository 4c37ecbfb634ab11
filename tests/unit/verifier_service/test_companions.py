"""Passes wait for sessions that are about to be back where that serves all faster, tried in simulated time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from verifier_service.companions import CAUTION, PassCost, Returns, hold_s


def returning(mean_s: float, *, answered_at: float = 0.0, deviation_s: float = 0.001) -> Returns:
    returns = Returns()
    returns.mean_s, returns.deviation_s, returns.answered_at = mean_s, deviation_s, answered_at
    return returns


def held(
    now: float, others: Sequence[Returns], *, num_here: int = 1, num_answered: int | None = None, gain_s: float = 0.02
) -> float:
    num_together = num_here + len(others)
    return hold_s(
        now,
        idle_since=0.0,
        num_here=num_here,
        others=others,
        num_answered=num_together if num_answered is None else num_answered,
        fixed_s=gain_s / CAUTION,
    )


def test_a_pass_waits_for_whoever_is_back_within_what_sharing_it_saves() -> None:
    assert held(0.001, [returning(0.005)]) == pytest.approx(0.006)  # until it would be overdue
    assert held(0.001, [returning(0.015, deviation_s=0.004)]) == pytest.approx(0.019)  # never longer than it saves
    assert held(0.001, [returning(0.021)]) == 0


def test_nobody_is_waited_for_who_is_overdue_or_in_no_habit_of_coming_back() -> None:
    assert held(0.009, [returning(0.005)]) == 0
    assert held(0.001, []) == 0
    assert held(0.001, [Returns()]) == 0
    never_asked_twice = Returns()
    never_asked_twice.answer(0.0)
    assert held(0.001, [never_asked_twice]) == 0


def test_many_do_not_wait_long_for_one() -> None:
    assert held(0.001, [returning(0.005)], num_here=3) > 0
    assert held(0.001, [returning(0.006)], num_here=7) == 0


def test_a_group_that_would_take_too_long_to_be_back_together_is_not_brought_together() -> None:
    assert held(0.001, [returning(0.008)], num_answered=1) > 0  # both are likely to be back within 18 ms
    assert held(0.001, [returning(0.01)], num_answered=1) == 0


def test_returns_are_learned_as_they_come() -> None:
    returns = Returns()
    for start in range(100):
        returns.answer(start)
        returns.come(start + 0.01)
    assert returns.mean_s == pytest.approx(0.01)
    returns.answer(100)
    assert returns.is_expected(100.005, within_s=0.011)
    assert not returns.is_expected(100.005, within_s=0.009)
    assert not returns.is_expected(100.02, within_s=0.02)


def test_the_fixed_part_of_passes_is_found_whatever_is_in_them_and_a_stall_does_not_matter() -> None:
    cost, random_sizes = PassCost(), random.Random(0)
    assert cost.fixed_s == 0
    for number in range(300):
        num_tokens = random_sizes.randint(1, 64)
        cost.add(num_tokens, 0.015 + 0.001 * num_tokens + (1.0 if number % 50 == 49 else 0.0))
    assert cost.fixed_s == pytest.approx(0.015, rel=0.2)


def test_passes_of_one_size_count_as_fixed_until_there_are_others() -> None:
    cost = PassCost()
    for _ in range(10):
        cost.add(1, 0.016)
    assert cost.fixed_s == pytest.approx(0.016)
    for _ in range(10):
        cost.add(2, 0.018)
    assert cost.fixed_s == pytest.approx(0.014, rel=0.05)


@dataclass(frozen=True)
class System:
    """Sessions over a verifier, in seconds.

    After an answer each needs `latency_s` for itself, its draft for example, and `serial_s` of an orchestrator that
    serves one after another.
    """

    num_sessions: int
    fixed_s: float
    per_session_s: float
    serial_s: float
    latency_s: float


class Simulation:
    """A system in simulated time.

    Attributes:
        arrivals: when which session will be asked again, a heap.
    """

    def __init__(self, system: System, *, gathers: bool) -> None:
        self._system = system
        self._gathers = gathers
        self._random = random.Random(1)
        self._orchestrator_free_at = 0.0
        self.returns = [Returns() for _ in range(system.num_sessions)]
        self.arrivals = [(0.001 * number, number) for number in range(system.num_sessions)]

    def rounds_per_s(self, duration_s: float = 20.0) -> float:
        cost, now, idle_since, num_answered, num_rounds = PassCost(), 0.0, 0.0, 0, 0
        here: dict[int, float] = {}
        while now < duration_s:
            here |= self._arrived(now)
            if not here:
                now = self.arrivals[0][0]
                continue
            hold = hold_s(
                now,
                idle_since=idle_since,
                num_here=len(here),
                others=[returns for number, returns in enumerate(self.returns) if number not in here],
                num_answered=num_answered,
                fixed_s=cost.fixed_s,
            )
            if self._gathers and hold > 0:
                now = min(now + hold + 1e-9, self.arrivals[0][0])
                continue
            pass_s = self._about(self._system.fixed_s + self._system.per_session_s * len(here), spread=0.1)
            cost.add(len(here), pass_s)
            now += pass_s
            for number, came_at in here.items():
                self._answer(number, came_at, now)
            num_rounds += len(here)
            idle_since, num_answered, here = now, len(here), {}
        return num_rounds / now

    def _arrived(self, now: float) -> dict[int, float]:
        arrived = {}
        while self.arrivals and self.arrivals[0][0] <= now:
            at, number = heapq.heappop(self.arrivals)
            arrived[number] = at
        return arrived

    def _answer(self, number: int, came_at: float, now: float) -> None:
        self.returns[number].come(came_at)
        self.returns[number].answer(now)
        self._orchestrator_free_at = max(now, self._orchestrator_free_at) + self._about(self._system.serial_s)
        heapq.heappush(self.arrivals, (self._orchestrator_free_at + self._about(self._system.latency_s), number))

    def _about(self, seconds: float, *, spread: float = 0.3) -> float:
        return seconds * self._random.uniform(1 - spread, 1 + spread)


WORTH_IT = {
    "two sessions": (System(2, 0.017, 0.0015, 0.0015, 0.002), 1.4),
    "four sessions": (System(4, 0.017, 0.0015, 0.0015, 0.002), 1.2),
    "a large model on a GPU, 32 sessions": (System(32, 0.025, 0.0001, 0.0002, 0.004), 1.25),
    "drafters that take their time": (System(4, 0.03, 0.0005, 0.0005, 0.008), 1.1),
}
NOT_WORTH_IT = {
    "one session": System(1, 0.017, 0.0015, 0.0015, 0.002),
    "an orchestrator that is the bottleneck": System(16, 0.017, 0.0015, 0.0015, 0.002),
    "passes that cost what is in them": System(8, 0.001, 0.003, 0.0005, 0.002),
    "a small model": System(8, 0.003, 0.0003, 0.001, 0.003),
    "drafters far away": System(8, 0.02, 0.001, 0.0005, 0.05),
}


def gain(system: System) -> float:
    held, plain = (Simulation(system, gathers=gathers).rounds_per_s() for gathers in (True, False))
    return held / plain


@pytest.mark.parametrize("name", WORTH_IT)
def test_sessions_that_took_turns_share_passes_where_that_is_faster(name: str) -> None:
    system, least = WORTH_IT[name]
    assert gain(system) > least


@pytest.mark.parametrize("name", NOT_WORTH_IT)
def test_where_it_is_not_nothing_is_lost(name: str) -> None:
    assert gain(NOT_WORTH_IT[name]) > 0.97
