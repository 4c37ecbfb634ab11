"""Pools from EndpointSlices, against an API server that speaks the list and watch protocol over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import slice_api
from orchestrator.kubernetes_discovery import KubernetesService
from tests.unit.orchestrator.fake_api_server import FakeApiServer, endpoint, endpoint_slice

GRPC = {"grpc": 8000}


def use_kubeconfig(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, token: str = "secret") -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "pools"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    made = FakeApiServer()
    await made.start()
    use_kubeconfig(made.url, tmp_path, monkeypatch)
    yield made
    await made.stop()


class Followed:
    """What a source has told so far."""

    def __init__(self) -> None:
        self.sets: list[frozenset[str]] = []
        self._news = asyncio.Event()

    def hear(self, addresses: frozenset[str]) -> None:
        self.sets.append(addresses)
        self._news.set()

    async def until(self, *addresses: str) -> None:
        async with asyncio.timeout(20):
            while not self.sets or self.sets[-1] != frozenset(addresses):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def followed(source: KubernetesService | None = None) -> AsyncIterator[Followed]:
    source = source or KubernetesService("verifier", "grpc", refused_pause_s=0.05)
    heard = Followed()

    async def follow() -> None:
        async with aclosing(source.watch()) as sets:
            async for addresses in sets:
                heard.hear(addresses)

    task = asyncio.create_task(follow())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task.exception()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_pods_that_come_and_go_are_told(server: FakeApiServer) -> None:
    server.put(endpoint_slice("a", endpoint("10.0.0.1"), ports=GRPC))
    async with followed() as heard:
        await heard.until("10.0.0.1:8000")
        server.put(endpoint_slice("b", endpoint("10.0.0.2"), ports=GRPC))
        await heard.until("10.0.0.1:8000", "10.0.0.2:8000")
        server.delete("a")
        await heard.until("10.0.0.2:8000")
        server.put(endpoint_slice("b"))
        await heard.until()
    assert [query.get("watch") for query in server.queries] == [None, "true"]
