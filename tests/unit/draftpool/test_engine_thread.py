import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from draftpool.engine_thread import EngineThread, Job
from draftpool.errors import ContextLost, Draining, NoCapacity


class Square(Job[int]):
    def __init__(self, number: int, num_turns: int = 1) -> None:
        super().__init__()
        self.number = number
        self.num_turns = num_turns


class SquareEngine:
    """Squares numbers; a job stays open for `num_turns` turns. Waits for `gate` before each turn."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []

    def turn(self, jobs: Sequence[Square]) -> bool:
        self.gate.wait()
        self.batches.append(numbers(jobs))
        for job in jobs:
            job.num_turns -= 1
            if job.number < 0:
                raise ValueError("negative")
            if job.num_turns == 0:
                job.answer(job.number**2)
        return True


def numbers(jobs: Sequence[Square]) -> list[int]:
    return [job.number for job in jobs]


@pytest.fixture
def engine():
    return SquareEngine()


@pytest.fixture
def thread(engine):
    thread = EngineThread(engine.turn, name="square", max_waiting=4)
    yield thread
    engine.gate.set()
    thread.close()


async def test_jobs_that_arrive_during_a_turn_share_the_next(engine, thread) -> None:
    engine.gate.clear()
    first = asyncio.create_task(thread.submit(Square(1)))
    await asyncio.sleep(0.05)
    rest = [asyncio.create_task(thread.submit(Square(number))) for number in (2, 3)]
    await asyncio.sleep(0.05)
    engine.gate.set()
    assert await asyncio.gather(first, *rest) == [1, 4, 9]
    assert engine.batches == [[1], [2, 3]]


async def test_an_unfinished_job_comes_again(engine, thread) -> None:
    assert await thread.submit(Square(5, num_turns=3)) == 25
    assert engine.batches == [[5]] * 3


async def test_a_turn_that_fails_fails_its_jobs_and_nothing_else(thread) -> None:
    with pytest.raises(ValueError, match="negative"):
        await thread.submit(Square(-1))
    assert await thread.submit(Square(3)) == 9
    assert thread.num_waiting == 0


async def test_nobody_is_blamed_for_a_turn_that_failed_with_several_jobs(engine, thread) -> None:
    engine.gate.clear()
    first = asyncio.create_task(thread.submit(Square(1)))
    await asyncio.sleep(0.05)
    both = [asyncio.create_task(thread.submit(Square(number))) for number in (-3, 2)]
    await asyncio.sleep(0.05)
    engine.gate.set()
    assert await first == 1
    for failed in await asyncio.gather(*both, return_exceptions=True):
        assert isinstance(failed, ContextLost)


async def test_a_full_queue_refuses_with_a_retry_hint(engine, thread) -> None:
    engine.gate.clear()
    waiting = [asyncio.create_task(thread.submit(Square(number))) for number in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(NoCapacity) as refused:
        await thread.submit(Square(9))
    assert refused.value.retry_after_s
    engine.gate.set()
    assert await asyncio.gather(*waiting) == [0, 1, 4, 9]


async def test_a_cancelled_job_is_never_computed(engine, thread) -> None:
    engine.gate.clear()
    first = asyncio.create_task(thread.submit(Square(1)))
    await asyncio.sleep(0.05)
    gone = asyncio.create_task(thread.submit(Square(2)))
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0.05)
    engine.gate.set()
    assert await first == 1
    assert await thread.submit(Square(3)) == 9
    assert engine.batches == [[1], [3]]


async def test_calls_run_on_the_engines_thread_after_earlier_jobs(thread) -> None:
    names: list[str] = []
    job = asyncio.create_task(thread.submit(Square(4)))
    await asyncio.sleep(0)
    await asyncio.wrap_future(thread.call(lambda: names.append(threading.current_thread().name)))
    assert names == ["square"]
    assert await job == 16


async def test_a_closed_thread_drains(thread) -> None:
    thread.close()
    with pytest.raises(Draining):
        await thread.submit(Square(1))


async def test_turns_are_work_and_waiting_for_room_is_none() -> None:
    has_room = threading.Event()

    def turn(jobs: Sequence[Square]) -> bool:
        time.sleep(0.05)
        for job in jobs if has_room.is_set() else ():
            job.answer(0)
        return has_room.is_set()

    thread = EngineThread(turn, name="roomy", max_waiting=1)
    job = asyncio.create_task(thread.submit(Square(1)))
    await asyncio.sleep(0.2)
    assert thread.busy.at(time.monotonic()) == 0
    has_room.set()
    await job
    async with asyncio.timeout(3):  # the answer comes before the turn is over
        while thread.busy.at(time.monotonic()) == 0:
            await asyncio.sleep(0.01)
    thread.close()


async def test_a_turn_that_is_held_takes_those_that_come_meanwhile_along(engine) -> None:
    asked: list[int] = []

    def hold(jobs: Sequence[Square]) -> float:
        asked.append(len(jobs))
        return 5.0 if len(jobs) < 3 else 0.0

    thread = EngineThread(engine.turn, name="patient", max_waiting=4, hold=hold)
    jobs = [asyncio.create_task(thread.submit(Square(number))) for number in (1, 2, 3)]
    async with asyncio.timeout(3):
        assert await asyncio.gather(*jobs) == [1, 4, 9]
    assert engine.batches == [[1, 2, 3]]
    assert asked == sorted(asked)
    thread.close()


async def test_a_turn_that_is_held_begins_when_nobody_came(engine) -> None:
    begun_s = time.monotonic()

    def hold(_: Sequence[Square]) -> float:
        return max(0.0, begun_s + 0.2 - time.monotonic())

    thread = EngineThread(engine.turn, name="patient", max_waiting=4, hold=hold)
    assert await thread.submit(Square(3)) == 9
    assert time.monotonic() - begun_s >= 0.2
    assert thread.busy.at(time.monotonic()) < 0.1, "to wait is no work"
    thread.close()


async def test_a_held_turn_neither_keeps_calls_waiting_nor_closing(engine) -> None:
    thread = EngineThread(engine.turn, name="patient", max_waiting=4, hold=lambda _: 60.0)
    job = asyncio.create_task(thread.submit(Square(3)))
    async with asyncio.timeout(3):
        await asyncio.wrap_future(thread.call(lambda: None))
        await asyncio.to_thread(thread.close)
        with pytest.raises(Draining):
            await job


async def test_a_job_given_up_while_its_turn_is_held_has_no_turn(engine) -> None:
    def held(jobs: Sequence[Square]) -> float:
        return max(0.0, begun_s + 0.1 - time.monotonic()) if 1 in numbers(jobs) else 0.0

    begun_s = time.monotonic()
    thread = EngineThread(engine.turn, name="patient", max_waiting=4, hold=held)
    given_up = asyncio.create_task(thread.submit(Square(1)))
    await asyncio.sleep(0.02)
    given_up.cancel()
    await asyncio.sleep(0.3)
    assert engine.batches == []
    assert await thread.submit(Square(2)) == 4
    assert engine.batches == [[2]]
    thread.close()
