"""Signals as cancellation."""

import asyncio
import os
import signal

import pytest

from draftpool.cli.interrupt import until_interrupted


class Work:
    """Work that takes for ever, with a clean-up that takes a moment; remembers what happened to it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.is_killed = asyncio.Event()

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("cleaning")
            await asyncio.wait_for(self.is_killed.wait(), 5)
            self.log.append("clean")

    def kill(self) -> None:
        self.log.append("killed")
        self.is_killed.set()


async def test_the_first_signal_cleans_up_and_the_second_hurries_it() -> None:
    work = Work()
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
    loop.call_later(0.15, os.kill, os.getpid(), signal.SIGINT)
    was_interrupted = await until_interrupted(
        work.run(), on_first_signal=lambda: work.log.append("stopping"), on_second_signal=work.kill
    )
    assert was_interrupted
    assert work.log == ["stopping", "cleaning", "killed", "clean"]


async def test_work_that_ends_by_itself_was_not_interrupted() -> None:
    assert not await until_interrupted(asyncio.sleep(0), on_first_signal=lambda: None, on_second_signal=lambda: None)


async def test_an_error_of_the_work_comes_out() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await until_interrupted(fail(), on_first_signal=lambda: None, on_second_signal=lambda: None)
