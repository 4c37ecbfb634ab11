"""Redis away, killed, emptied, full, hanging or locked: learning goes on here, and counts once afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from orchestrator.sharing import metrics
from orchestrator.sharing.condition import Trouble
from tests.unit.orchestrator.sharing.redis_server import RedisServer, Wire
from tests.unit.orchestrator.sharing.replicas import TIMEOUT_S, flush_all, quiet_replica, replica, stored_sums, until

StartRedis = Callable[..., RedisServer]


def failures(trouble: Trouble) -> float:
    return metrics.FAILURES.labels(trouble.value)._value.get()


async def test_an_answer_that_gets_lost_behind_the_merge_changes_nothing(start_redis: StartRedis) -> None:
    server = start_redis()
    async with Wire(server.port) as wire, quiet_replica(f"redis://127.0.0.1:{wire.port}") as sums:
        sums.add("group", {"n": 1.0})
        assert await sums.flush()
        wire.loses_replies = True
        sums.add("group", {"n": 10.0}, keep=0.5)
        assert not await sums.flush()
        assert await stored_sums(server.url, "group") == {"n": 10.5}  # it had arrived
        sums.add("group", {"n": 100.0}, keep=0.5)
        assert not await sums.flush()
        wire.loses_replies = False
        await flush_all(sums)
        assert sums.view("group") == {"n": 105.25}
    assert await stored_sums(server.url, "group") == {"n": 105.25}


async def test_killed_between_merge_and_answer_and_empty_afterwards(start_redis: StartRedis) -> None:
    server = start_redis()
    async with Wire(server.port) as wire:
        url = f"redis://127.0.0.1:{wire.port}"
        async with quiet_replica(url) as wired, quiet_replica(server.url) as direct:
            wired.add("group", {"n": 1.0})
            assert await wired.flush()
            wire.loses_replies = True
            wired.add("group", {"n": 10.0})
            assert not await wired.flush()
            direct.add("group", {"n": 100.0})
            assert await direct.flush()  # its snapshot holds the 10 that the other does not know to have arrived
            server.restart()
            wire.loses_replies = False
            direct.add("group", {"n": 1000.0})
            await flush_all(direct)
            await flush_all(wired)
            assert wired.view("group") == {"n": 1111.0}
    assert await stored_sums(server.url, "group") == {"n": 1111.0}


async def test_back_from_its_last_save_it_knows_what_it_knew_then_and_takes_what_comes_once(
    start_redis: StartRedis,
) -> None:
    server = start_redis()
    async with Wire(server.port) as wire, quiet_replica(f"redis://127.0.0.1:{wire.port}") as sums:
        sums.add("group", {"n": 1.0})
        assert await sums.flush()
        wire.loses_replies = True
        sums.add("group", {"n": 10.0})
        assert not await sums.flush()
        assert server.say("SAVE") == "+OK"
        server.restart()
        assert await stored_sums(server.url, "group") == {"n": 11.0}
        wire.loses_replies = False
        sums.add("group", {"n": 100.0})
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 111.0}


async def test_back_from_its_log_nothing_is_missing(start_redis: StartRedis) -> None:
    server = start_redis("appendonly yes", "appendfsync always")
    async with quiet_replica(server.url) as sums:
        for _ in range(3):
            sums.add("group", {"n": 1.0}, keep=0.5)
            await flush_all(sums)
            server.restart()
        assert await stored_sums(server.url, "group") == {"n": 1.75}


async def test_away_at_the_start_it_is_found_when_it_comes(start_redis: StartRedis) -> None:
    server = start_redis()
    server.kill()
    async with quiet_replica(server.url) as sums:
        sums.add("group", {"n": 1.0})
        assert not await sums.flush()
        sums.add("group", {"n": 1.0})
        assert sums.view("group") == {"n": 2.0}
        server.start()
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 2.0}


async def test_hanging_at_the_end_it_holds_nobody_up_for_long(start_redis: StartRedis) -> None:
    server = start_redis()
    sums = replica(server.url)
    async with asyncio.timeout(30):  # less than the 20 seconds that each call here would wait, two of them at least
        async with sums.shared():
            sums.add("group", {"n": 1.0})
            await until(lambda: not sums._has_changes)
            os.kill(server.pid, signal.SIGSTOP)
            sums.add("group", {"n": 1.0})


async def test_while_it_hangs_learning_goes_on_and_counts_once_afterwards(start_redis: StartRedis) -> None:
    server = start_redis()
    async with quiet_replica(server.url, timeout_s=TIMEOUT_S) as sums:
        sums.add("group", {"n": 1.0})
        await flush_all(sums)
        with server.stopped():  # what is sent waits in its socket, and is worked off when it goes on
            for _ in range(3):
                sums.add("group", {"n": 1.0}, keep=0.5)
                assert not await sums.flush()
            assert sums.view("group") == {"n": 1.875}
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 1.875}


async def test_a_paused_server_is_waited_for_in_the_background(start_redis: StartRedis) -> None:
    server = start_redis()
    async with quiet_replica(server.url, timeout_s=TIMEOUT_S) as sums, Redis.from_url(server.url) as client:
        await client.client_pause(round(3 * TIMEOUT_S * 1000))
        sums.add("group", {"n": 1.0})
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 1.0}


async def test_a_server_that_a_script_blocks_refuses_and_is_asked_again(start_redis: StartRedis) -> None:
    server = start_redis("lua-time-limit 50")
    async with quiet_replica(server.url, timeout_s=TIMEOUT_S) as sums, Redis.from_url(server.url) as client:
        blocking = asyncio.create_task(client.eval("while true do end", 0))
        await until(lambda: server.say("PING").startswith("-BUSY"))
        sums.add("group", {"n": 1.0})
        assert not await sums.flush()
        server.say("SCRIPT KILL")
        with pytest.raises(ResponseError, match="killed"):
            await blocking
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 1.0}


async def test_a_full_server_refuses_and_gets_everything_once_there_is_room(start_redis: StartRedis) -> None:
    server = start_redis("maxmemory 1", "maxmemory-policy noeviction")
    async with quiet_replica(server.url) as sums, Redis.from_url(server.url) as client:
        for _ in range(3):
            sums.add("group", {"n": 1.0}, keep=0.5)
            assert not await sums.flush()
        assert await stored_sums(server.url, "group") == {}
        assert sums.view("group") == {"n": 1.75}
        await client.config_set("maxmemory", 0)
        await flush_all(sums)
    assert await stored_sums(server.url, "group") == {"n": 1.75}


async def test_a_read_only_replica_is_refused_and_left_as_soon_as_it_is_a_master(start_redis: StartRedis) -> None:
    master, follower = start_redis(), start_redis()
    async with Redis.from_url(follower.url) as client:
        await client.replicaof("127.0.0.1", str(master.port))
        async with quiet_replica(follower.url) as sums:
            sums.add("group", {"n": 1.0})
            assert not await sums.flush()
            await client.replicaof("NO", "ONE")
            await flush_all(sums)
    assert await stored_sums(follower.url, "group") == {"n": 1.0}


async def test_a_key_of_another_type_concerns_its_own_group_alone(shared_redis: RedisServer) -> None:
    async with quiet_replica(shared_redis.url) as sums, Redis.from_url(shared_redis.url) as client:
        await client.set("draftpool:bandit:v2:stolen", "something else")
        await client.hset("draftpool:bandit:v2:garbage", "s:n", "not a number")
        for group in ("stolen", "garbage", "sound"):
            sums.add(group, {"n": 1.0})
        assert not await sums.flush()
        assert [sums.view(group) for group in ("stolen", "garbage", "sound")] == [{"n": 1.0}] * 3
        assert await stored_sums(shared_redis.url, "sound") == {"n": 1.0}
        await client.delete("draftpool:bandit:v2:stolen", "draftpool:bandit:v2:garbage")
        await flush_all(sums)
        assert await stored_sums(shared_redis.url, "stolen") == {"n": 1.0}


async def test_a_trouble_is_said_once_and_its_end_too_without_the_password(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orchestrator.sharing")
    server = start_redis("requirepass geheim")
    async with (
        quiet_replica(server.url.replace("//", "//:falsch@")) as sums,
        Redis.from_url(server.url, password="geheim") as client,
    ):
        sums.add("group", {"n": 1.0})
        for _ in range(3):
            assert not await sums.flush()
        await client.config_set("requirepass", "falsch")
        await flush_all(sums)
    [trouble, end] = caplog.messages
    assert "unreachable (AuthenticationError" in trouble
    assert f"redis://:***@127.0.0.1:{server.port}/0" in trouble
    assert end.startswith("what is learned is shared through")
    assert "falsch" not in caplog.text


async def test_the_gauges_follow(start_redis: StartRedis) -> None:
    server = start_redis()
    sums = replica(server.url)
    async with sums.shared():
        sums.add("group", {"n": 1.0})
        await until(lambda: metrics.CONNECTED._value.get() == 1)
        assert metrics.LAST_MERGE._value.get() > 0
        server.kill()
        before = failures(Trouble.UNREACHABLE)
        sums.add("group", {"n": 1.0})
        await until(lambda: metrics.CONNECTED._value.get() == 0)
        await until(lambda: failures(Trouble.UNREACHABLE) > before)
