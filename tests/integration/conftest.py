"""What integration tests share: a whole draftpool of real processes, and `draftpool up` as a command."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client
from tests.integration.command_line import Up, is_running, start_up, wait_until
from tests.unhurried import unhurried


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[Stack]:
    """One for all tests, with the embedded models in float32."""
    with unhurried():
        async with Stack(StackPlan(dtype="float32", has_metrics=True)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.orchestrator) as connected:
        yield connected


@pytest.fixture
def up_in(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `draftpool up` and makes sure that nothing of it outlives the test."""
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(start_up(tmp_path, *options))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The default stack; when all tests are done, Ctrl-C must end it cleanly."""
    up = start_up(tmp_path_factory.mktemp("up"))
    try:
        up.wait_ready()
        yield up
        children = up.children
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0, up.output
        assert wait_until(lambda: not any(map(is_running, children)), 30)
    finally:
        up.process.kill()
        up.process.wait()
