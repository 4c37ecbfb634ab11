"""Following a Kubernetes Service, and an API server to follow it at."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.discovery import Discovery
from orchestrator.kubernetes_discovery import KubernetesService
from tests.unit.orchestrator.fake_api_server import FakeApiServer

PATIENCE_S = 20.0


def write_kubeconfig(path: Path, url: str, token: str = "secret") -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "pools"}}],
    }
    path.write_text(json.dumps(config))


@asynccontextmanager
async def api_server() -> AsyncIterator[FakeApiServer]:
    """One that the kubeconfig points at. At the end nobody may watch it any more."""
    server = FakeApiServer()
    await server.start()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        write_kubeconfig(Path(folder, "config"), server.url)
        patch.setenv("KUBECONFIG", str(Path(folder, "config")))
        patch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        try:
            yield server
            await until(lambda: not server.num_watches)
        finally:
            await server.stop()


class Followed:
    """What a source has told so far."""

    def __init__(self) -> None:
        self.sets: list[frozenset[str]] = []
        self._news = asyncio.Event()

    def hear(self, addresses: frozenset[str]) -> None:
        self.sets.append(addresses)
        self._news.set()

    async def until(self, *addresses: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.sets or self.sets[-1] != frozenset(addresses):
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def followed(source: Discovery | None = None) -> AsyncIterator[Followed]:
    """Ends with no task and no connection left."""
    heard = Followed()

    async def follow() -> None:
        async with aclosing((source or service()).watch()) as sets:  # type: ignore[type-var]
            async for addresses in sets:
                heard.hear(addresses)

    before = asyncio.all_tasks()
    task = asyncio.create_task(follow())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task.exception()
        assert [left for left in asyncio.all_tasks() - before if "kubernetes" in repr(left)] == []


def service(**changed: Any) -> KubernetesService:
    return KubernetesService(**{"service": "verifier", "port": "grpc", "refused_pause_s": 0.02} | changed)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
