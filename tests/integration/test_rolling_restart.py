"""Every pool restarted replica by replica under load: no request fails, and no output is another.

Replicas get SIGTERM and a grace that is shorter than the requests run, so sessions have to move.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from draftpool.cli.child import ChildProcess
from draftpool.cli.plan import StackPlan
from draftpool.cli.process import ServiceProcess
from draftpool.cli.stack import Stack
from draftpool.client import Client, Completion, Patience, TreeShape
from draftpool.errors import DraftpoolError
from tests.integration.orchestrators import another_orchestrator
from tests.integration.probes import QUESTION, failovers

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGET = "tiny-llama"
NUM_STREAMS = 8
GRACE_S = 0.5


@dataclass
class Doubled:
    """A draftpool with two of everything.

    Attributes:
        second: the second orchestrator.
    """

    stack: Stack
    second: ServiceProcess

    @property
    def addresses(self) -> str:
        return f"ipv4:{self.stack.orchestrator},{self.second.address}"

    def pool(self, role: str) -> list[ChildProcess]:
        first = [service for service in self.stack.services.values() if service.role == role]
        return [*first, self.second] if role == "orchestrator" else first


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doubled() -> AsyncIterator[Doubled]:
    plan = StackPlan(
        targets=(TARGET,), num_verifiers=2, num_drafters=2, dtype="float32", drain_grace_s=GRACE_S, has_metrics=True
    )
    async with AsyncExitStack() as cleanup:
        stack = await cleanup.enter_async_context(Stack(plan))
        second = await cleanup.enter_async_context(another_orchestrator(stack, "orchestrator 2"))
        yield Doubled(stack, second)


@dataclass
class Load:
    """Streams that ask for the same texts again and again, and what has become of them.

    Attributes:
        undisturbed: the tokens of each stream's text.
        num_done: requests that were answered.
        num_continued: those of them that went from one orchestrator to another.
        troubles: what was not.
    """

    client: Client
    undisturbed: list[tuple[int, ...]] = field(default_factory=list)
    num_done: int = 0
    num_continued: int = 0
    troubles: list[str] = field(default_factory=list)

    async def learn(self) -> None:
        completions = await asyncio.gather(*map(self._complete, range(NUM_STREAMS)))
        self.undisturbed = [completion.token_ids for completion in completions]

    async def stream(self, stream: int, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            try:
                completion = await self._complete(stream)
            except DraftpoolError as error:
                self.troubles.append(f"{type(error).__name__}: {error.message}")
                return
            if completion.token_ids != self.undisturbed[stream]:
                self.troubles.append(f"stream {stream} brought another text")
            self.num_done += 1
            self.num_continued += completion.finish.usage.num_resumed_tokens > 0

    async def _complete(self, stream: int) -> Completion:
        """Every other stream samples."""
        return await self.client.complete(
            TARGET,
            QUESTION,
            max_new_tokens=100,
            temperature=float(stream % 2),
            seed=stream,
            ignore_eos=True,
            drafting=TreeShape((2, 2, 1)),
        )


async def restart(services: Sequence[ChildProcess]) -> None:
    """As a rolling update does: the next one goes when the one before is healthy again."""
    for service in services:
        await service.stop(GRACE_S + 10)
        await service.start()


@pytest.mark.parametrize("role", ["drafter", "verifier", "orchestrator"])
async def test_a_pool_restarted_one_by_one_fails_no_request_and_changes_no_token(doubled: Doubled, role: str) -> None:
    async with Client(doubled.addresses, patience=Patience(lost_s=60)) as client:
        load, is_over = Load(client), asyncio.Event()
        await load.learn()
        streams = [asyncio.create_task(load.stream(stream, is_over)) for stream in range(NUM_STREAMS)]
        num_before = 0 if role == "orchestrator" else await failovers(doubled.stack, role)
        await asyncio.sleep(0.5)
        await restart(doubled.pool(role))
        num_done = load.num_done
        is_over.set()
        await asyncio.gather(*streams)
        num_moved = load.num_continued if role == "orchestrator" else await failovers(doubled.stack, role) - num_before
    assert load.troubles == []
    assert load.num_done == num_done + NUM_STREAMS
    assert num_moved > 0
