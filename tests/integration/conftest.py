"""One whole draftpool for all integration tests: real processes, real gRPC, the embedded models in float32."""

from collections.abc import AsyncIterator

import pytest_asyncio

from draftpool.cli.plan import StackPlan
from draftpool.cli.stack import Stack
from draftpool.client import Client
from tests.unhurried import unhurried


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[Stack]:
    with unhurried():
        async with Stack(StackPlan(dtype="float32", has_metrics=True)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.orchestrator) as connected:
        yield connected
