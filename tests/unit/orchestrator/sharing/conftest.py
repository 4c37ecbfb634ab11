"""A Redis of each version that is promised: 6.2, which `draftpool up` brings along, and the system's 7."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.orchestrator.sharing.redis_server import RedisServer, running, system_binary, wheel_binary


def _binary(version: str) -> Path:
    binary = wheel_binary() if version == "6.2" else system_binary()
    if binary is None:
        pytest.skip("no redis-server 7 on this machine: apt-get install redis-server")
    return binary


@pytest.fixture(scope="module", params=["6.2", "7"])
def redis_binary(request: pytest.FixtureRequest) -> Path:
    return _binary(request.param)


@pytest.fixture
def redis7() -> Path:
    return _binary("7")


@pytest.fixture(scope="module")
def shared_redis(redis_binary: Path) -> Iterator[RedisServer]:
    """One server for all tests of a module that do it no harm; they use groups of different names."""
    with running(redis_binary) as server:
        yield server


@pytest.fixture
def start_redis(redis_binary: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers for one test alone."""
    with ExitStack() as stack:
        yield lambda *config: stack.enter_context(running(redis_binary, *config))
