"""An orchestrator that is stopped or killed costs its clients no token: real processes, fake model services."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from draftpool.cli.listening import free_port
from draftpool.cli.process import ServiceProcess, ServiceSpec
from draftpool.client import Client, Completion, ConnectionLost, Event, Patience, Token
from draftpool.errors import Draining
from tests.unit.orchestrator.fake_services import FakeVerifier, until

NUM_TOKENS = 40
TEXT = ("abcdefghijklmnopqrstuvwxyz" * 2)[1 : NUM_TOKENS + 1]
GIVES_UP = Patience(lost_s=0)


class RationedVerifier(FakeVerifier):
    """Answers as often as it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.ration = asyncio.Semaphore(0)

    def allow(self, num_answers: int) -> None:
        for _ in range(num_answers):
            self.ration.release()


class Orchestrator(ServiceProcess):
    """One place, in front of a verifier."""

    def __init__(self, folder: Path, verifier: FakeVerifier, *, port: int = 0, drain_grace_s: float = 30) -> None:
        options = ("--verifier", verifier.address, "--refresh-s", "0.1", "--max-requests", "1")
        listen = f"127.0.0.1:{port}"
        spec = ServiceSpec(f"at {port}", "orchestrator", options, listen, 1, drain_grace_s, has_metrics=True)
        super().__init__(spec, folder)

    async def num_waiting(self) -> int:
        def page() -> str:
            with urlopen(f"http://{self.metrics_address}/metrics") as answer:
                return answer.read().decode()

        lines = (await asyncio.to_thread(page)).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("draftpool_waiting_requests{"))


@asynccontextmanager
async def serving(verifier: FakeVerifier) -> AsyncIterator[None]:
    await verifier.start()
    yield
    await verifier.stop()


@asynccontextmanager
async def running(process: Orchestrator) -> AsyncIterator[None]:
    await process.start()
    try:
        yield
    finally:
        await process.stop(0)


@asynccontextmanager
async def one_orchestrator(
    folder: Path, patience: Patience | None = None
) -> AsyncIterator[tuple[RationedVerifier, Orchestrator, Client]]:
    verifier = RationedVerifier()
    async with serving(verifier):
        process = Orchestrator(folder, verifier)
        async with running(process), Client(process.address, patience=patience or Patience()) as client:
            yield verifier, process, client


class Story:
    """A generation that is being read."""

    def __init__(self, client: Client) -> None:
        self.events: list[Event] = []
        self.reading = asyncio.create_task(self._read(client))

    async def _read(self, client: Client) -> None:
        async for event in client.generate("alphabet", "a", max_new_tokens=NUM_TOKENS, want_rounds=True):
            self.events.append(event)

    @property
    def num_tokens(self) -> int:
        return sum(isinstance(event, Token) for event in self.events)

    async def completion(self) -> Completion:
        async with asyncio.timeout(30):
            await self.reading
        return Completion.from_events(self.events)


def assert_uninterrupted(completion: Completion, num_resumed_tokens: int) -> None:
    """One start, all tokens, one finish; the usage is the last stream's."""
    assert completion.text == TEXT
    usage = completion.finish.usage
    assert (usage.num_resumed_tokens, usage.num_new_tokens) == (num_resumed_tokens, NUM_TOKENS - num_resumed_tokens)


async def test_after_sigterm_what_runs_and_what_waits_is_finished_and_what_comes_is_refused(tmp_path: Path) -> None:
    async with one_orchestrator(tmp_path, GIVES_UP) as (verifier, process, client):
        first = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=20))
        await until(lambda: verifier.num_open == 1)
        second = asyncio.create_task(client.complete("alphabet", "k", max_new_tokens=3))
        await somebody_waits(process)
        process.terminate()
        with pytest.raises(Draining) as refused:
            while True:
                await client.list_models()
        assert refused.value.retry_after_s == 1
        with pytest.raises(Draining):
            await client.complete("alphabet", "a")
        verifier.allow(100)
        assert (await first).text == "bcdefghijklmnopqrstu"
        assert (await second).text == "lmn"
        async with asyncio.timeout(10):  # not the whole grace
            await process.wait()
        assert process.ending == "ended with exit code 0"


@pytest.mark.parametrize("ending", ["killed", "drained"])
async def test_a_lost_orchestrators_request_is_continued_by_another_one(ending: str, tmp_path: Path) -> None:
    verifier = RationedVerifier()
    ports = [free_port(), free_port()]
    address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with serving(verifier), Client(address) as client:
        lost, other = (Orchestrator(tmp_path, verifier, port=port, drain_grace_s=0.1) for port in ports)
        async with running(lost):
            story = Story(client)
            verifier.allow(15)
            await until(lambda: story.num_tokens == 15)
            async with running(other):
                lost.kill() if ending == "killed" else lost.terminate()
                await lost.wait()
                verifier.allow(100)
                assert_uninterrupted(await story.completion(), num_resumed_tokens=15)


async def test_a_killed_orchestrators_requests_are_continued_when_it_is_back(tmp_path: Path) -> None:
    """Also the one that had no answer yet, since it waited for its turn."""
    async with one_orchestrator(tmp_path) as (verifier, process, client):
        first = Story(client)
        verifier.allow(15)
        await until(lambda: first.num_tokens == 15)
        second = asyncio.create_task(client.complete("alphabet", "a", max_new_tokens=NUM_TOKENS))
        await somebody_waits(process)
        process.kill()
        await process.wait()
        await process.start()
        verifier.allow(100)
        assert_uninterrupted(await first.completion(), num_resumed_tokens=15)
        assert_uninterrupted(await second, num_resumed_tokens=0)


async def test_without_patience_a_lost_stream_is_an_error(tmp_path: Path) -> None:
    async with one_orchestrator(tmp_path, GIVES_UP) as (verifier, process, client):
        story = Story(client)
        verifier.allow(3)
        await until(lambda: story.num_tokens == 3)
        process.kill()
        with pytest.raises(ConnectionLost):
            await story.completion()


async def somebody_waits(process: Orchestrator) -> None:
    async with asyncio.timeout(10):
        while await process.num_waiting() == 0:
            await asyncio.sleep(0.01)
