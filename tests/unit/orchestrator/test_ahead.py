"""One item is worked on ahead of who takes them, never two, and none is left behind."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from orchestrator.ahead import OneAhead


class Work:
    """Gives 0, 1, 2 and so on, each when it is let."""

    def __init__(self, *, fails_at: int | None = None, ends_at: int | None = None) -> None:
        self.lets = asyncio.Semaphore(0)
        self.num_begun = 0
        self.is_closed = False
        self._fails_at = fails_at
        self._ends_at = ends_at

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            while self.num_begun != self._ends_at:
                self.num_begun += 1
                await self.lets.acquire()
                if self.num_begun - 1 == self._fails_at:
                    raise ValueError("as it should")
                yield self.num_begun - 1
        finally:
            self.is_closed = True


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_next_item_is_worked_on_while_nobody_waits_for_it_and_no_further_one() -> None:
    work = Work()
    async with OneAhead(work.items()) as ahead:
        ahead.begin()
        work.lets.release()
        await settled()
        assert work.num_begun == 1
        assert await ahead.take() == 0
        await settled()
        assert work.num_begun == 1
        ahead.begin()
        await settled()
        assert work.num_begun == 2


async def test_it_is_known_since_when_an_item_waits() -> None:
    work = Work()
    async with OneAhead(work.items()) as ahead:
        ahead.begin()
        await settled()
        assert ahead.ready_at_s is None
        work.lets.release()
        await settled()
        assert ahead.ready_at_s is not None
        await ahead.take()
        assert ahead.ready_at_s is None


async def test_leaving_stops_the_work_and_closes_the_generator() -> None:
    work = Work()
    async with OneAhead(work.items()) as ahead:
        ahead.begin()
        await settled()
    assert work.is_closed


async def test_whoever_takes_a_failed_item_gets_the_error() -> None:
    work = Work(fails_at=0)
    work.lets.release()
    with pytest.raises(ValueError, match="as it should"):
        async with OneAhead(work.items()) as ahead:
            ahead.begin()
            await ahead.take()
    assert work.is_closed


async def test_behind_the_last_item_there_is_none() -> None:
    async with OneAhead(Work(ends_at=0).items()) as ahead:
        ahead.begin()
        assert await ahead.take() is None
