"""Which store an orchestrator gets."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from orchestrator.bandit.sums import LocalSums
from orchestrator.settings import OrchestratorSettings
from orchestrator.sharing.redis_sums import RedisSums
from orchestrator.sharing.store import open_sums
from tests.unit.orchestrator.sharing.redis_server import RedisServer
from tests.unit.orchestrator.sharing.replicas import stored_sums


async def test_without_a_url_it_is_the_process_itself() -> None:
    async with open_sums(OrchestratorSettings()) as sums:
        assert isinstance(sums, LocalSums)


async def test_with_a_url_it_is_redis(shared_redis: RedisServer) -> None:
    async with open_sums(OrchestratorSettings(redis_url=f"{shared_redis.url}/1")) as sums:
        assert isinstance(sums, RedisSums)
        sums.add("store", {"n": 1.0})
    assert await stored_sums(f"{shared_redis.url}/1", "store") == {"n": 1.0}


async def test_a_redis_that_is_not_there_delays_neither_start_nor_end() -> None:
    async with asyncio.timeout(20), open_sums(OrchestratorSettings(redis_url="redis://127.0.0.1:1")) as sums:
        sums.add("store", {"n": 1.0})
        assert sums.view("store") == {"n": 1.0}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError(\"No module named 'redis'\", name='redis')\n")
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}:{os.getcwd()}",
        "DRAFTPOOL_ORCHESTRATOR_REDIS_URL": "redis://h",
    }
    command = [sys.executable, "-m", "draftpool", "serve", "orchestrator"]
    told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].endswith("needs redis-py; pip install 'draftpool[orchestrator]'")
