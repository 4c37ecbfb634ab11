"""Places and turns: who holds one, who waits, and what a cancelled wait leaves behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from draftpool.errors import NoCapacity
from orchestrator.admission import Admission, Place
from orchestrator.fair_queue import Priority

STANDARD = Priority.STANDARD


class Hall:
    """An admission, and requests that hold their places until they are told to go."""

    def __init__(self, *, max_running: int = 1, max_waiting: int = 100) -> None:
        self.now_s = 0.0
        self.admission = Admission(
            max_running=max_running, max_waiting=max_waiting, lift_s=10, clock=lambda: self.now_s
        )
        self.order: list[str] = []
        self.places: dict[str, Place] = {}
        self._may_go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, priority: Priority = STANDARD) -> asyncio.Task[None]:
        """A request of the client that its name begins with."""
        self.tasks[name] = asyncio.create_task(self._hold(name, priority))
        await settle()
        return self.tasks[name]

    async def go(self, name: str) -> None:
        self._may_go[name].set()
        await self.tasks[name]
        await settle()

    async def _hold(self, name: str, priority: Priority) -> None:
        async with self.admission.admitted(name[0], priority) as place:
            self.order.append(name)
            self.places[name] = place
            self._may_go[name] = asyncio.Event()
            await self._may_go[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def hall(**limits: int) -> AsyncIterator[Hall]:
    """At its end all places must be free again."""
    made = Hall(**limits)
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    async with asyncio.timeout(1), made.admission.admitted("z", STANDARD):
        pass


async def test_as_many_run_as_there_are_places_and_the_others_follow_in_turn() -> None:
    async with hall(max_running=2) as made:
        for name in ("a1", "a2", "a3", "a4", "b1"):
            await made.come(name)
        assert made.order == ["a1", "a2"]
        await made.go("a2")
        await made.go("a1")
        assert made.order == ["a1", "a2", "a3", "b1"]


async def test_past_the_bound_a_request_is_refused_with_a_time_to_come_again() -> None:
    async with hall(max_waiting=1) as made:
        await made.come("a1")
        await made.come("a2")
        with pytest.raises(NoCapacity, match="1 requests are waiting already") as refused:
            await made.come("a3")
            await made.tasks["a3"]
        assert refused.value.retry_after_s


async def test_the_time_to_come_again_is_what_the_queue_will_take() -> None:
    async with hall(max_running=1) as made:
        await made.come("a1")
        made.now_s += 4
        await made.go("a1")
        assert made.admission.retry_after_s == 4
        for name in ("b1", "b2", "b3"):
            await made.come(name)
        assert made.admission.retry_after_s == 4 * 3
        for number in range(100):
            await made.come(f"c{number}")
        assert made.admission.retry_after_s == 60


async def test_who_is_sent_away_for_another_client_is_told_so() -> None:
    async with hall(max_waiting=2) as made:
        for name in ("a1", "a2", "a3", "b1"):
            await made.come(name)
        with pytest.raises(NoCapacity):
            await made.tasks["a3"]
        await made.go("a1")
        await made.go("a2")
        assert made.order == ["a1", "a2", "b1"]


async def test_a_waiting_request_that_is_cancelled_leaves_at_once_and_costs_nobody_a_turn() -> None:
    async with hall(max_waiting=2) as made:
        for name in ("a1", "a2", "a3"):
            await made.come(name)
        made.tasks["a2"].cancel()
        await settle()
        await made.come("a4")
        await made.go("a1")
        assert made.order == ["a1", "a3"]


async def test_a_place_that_comes_as_its_request_is_cancelled_goes_to_the_next() -> None:
    for cancelled_first in (True, False):
        async with hall() as made:
            for name in ("a1", "a2", "a3"):
                await made.come(name)
            leaving, holding = made.tasks["a2"], made.places["a1"]
            for step in (leaving.cancel, holding.give_back) if cancelled_first else (holding.give_back, leaving.cancel):
                step()
            await settle()
            assert made.order == ["a1", "a3"]


async def test_a_place_given_back_goes_to_the_next_and_is_waited_for_again_ahead_of_later_requests() -> None:
    async with hall(max_waiting=1) as made:
        for name in ("a1", "a2"):
            await made.come(name)
        made.places["a1"].give_back()
        made.places["a1"].give_back()
        await settle()
        assert made.order == ["a1", "a2"]
        await made.come("a3")
        returning = asyncio.create_task(made.places["a1"].take())
        await settle()
        assert not returning.done()
        await made.go("a2")
        await returning
        assert made.order == ["a1", "a2"]
        await made.go("a1")
        assert made.order == ["a1", "a2", "a3"]


async def test_a_place_that_was_given_back_is_not_given_back_again_at_the_end() -> None:
    async with hall() as made:
        await made.come("a1")
        made.places["a1"].give_back()
        await made.come("b1")
        await made.go("a1")
        await made.come("b2")
        assert made.order == ["a1", "b1"]
