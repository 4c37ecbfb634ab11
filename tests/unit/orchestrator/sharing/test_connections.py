"""Every way to a Redis that a URL can name, each with a real one at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import trustme
from redis.asyncio import Redis

from draftpool.cli.listening import free_port
from tests.unit.orchestrator.sharing.redis_server import RedisServer, running
from tests.unit.orchestrator.sharing.replicas import flush_all, quiet_replica, stored_sums

COMMANDS = "+evalsha +eval +hgetall +hset +hdel +expire +time +ping +client"
USER = f"user draftpool on >geheim ~draftpool:bandit:* {COMMANDS}"
"""As docs/redis.md has it."""

StartRedis = Callable[..., RedisServer]


async def share(url: str) -> None:
    """Two replicas over the URL come to know the same."""
    async with quiet_replica(url) as one, quiet_replica(url) as other:
        for sums in (one, other):
            sums.add("group", {"n": 1.0})
            await flush_all(sums)
        one.add("group", {"n": 1.0})
        await flush_all(one)
        assert one.view("group") == {"n": 3.0}


async def test_over_a_socket_and_into_another_database(start_redis: StartRedis) -> None:
    server = start_redis()
    await share(f"unix://{server.socket_path}?db=5")
    assert await stored_sums(f"{server.url}/5", "group") == {"n": 3.0}


async def test_with_a_password_of_strange_characters(start_redis: StartRedis) -> None:
    server = start_redis('requirepass "p@ss:/#?%"')
    await share(server.url.replace("//", "//:p%40ss%3A%2F%23%3F%25@"))


async def test_as_a_user_who_may_do_this_and_nothing_else(start_redis: StartRedis) -> None:
    server = start_redis(USER)
    await share(server.url.replace("//", "//draftpool:geheim@"))


async def test_over_tls_with_a_certificate_of_ones_own(redis7: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, certificate in (("server", authority.issue_cert("localhost")), ("client", authority.issue_cert("me"))):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    port = free_port()
    files = (f"tls-cert-file {tmp_path}/server.pem", f"tls-key-file {tmp_path}/server.key")
    with running(redis7, f"tls-port {port}", *files, f"tls-ca-cert-file {tmp_path}/ca.pem"):
        client_files = f"ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
        await share(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/ca.pem&{client_files}")
        for refused in (f"ssl_ca_certs={tmp_path}/ca.pem", client_files):  # no certificate; nobody it trusts
            async with quiet_replica(f"rediss://localhost:{port}?{refused}") as sums:
                sums.add("group", {"n": 1.0})
                assert not await sums.flush()


async def test_a_cluster(redis_binary: Path) -> None:
    with running(redis_binary, "cluster-enabled yes", f"{USER} +cluster +command") as server:
        async with Redis.from_url(server.url) as client, asyncio.timeout(30):
            await client.execute_command("CLUSTER ADDSLOTS", *range(16384))
            while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
                await asyncio.sleep(0.05)
        url = f"redis+cluster://draftpool:geheim@127.0.0.1:{server.port}"
        await share(url)
        async with quiet_replica(url) as sums:
            for number in range(20):  # in slots of all kinds
                sums.add(f"group {number}", {"n": 1.0})
            await flush_all(sums)
            server.restart()
            sums.add("group 3", {"n": 1.0})
            await flush_all(sums)
            assert sums.view("group 3") == {"n": 2.0}


async def test_the_master_that_sentinels_name_also_after_it_has_changed(redis_binary: Path) -> None:
    with ExitStack() as stack:
        master = stack.enter_context(running(redis_binary))
        follower = stack.enter_context(running(redis_binary, f"replicaof 127.0.0.1 {master.port}"))
        told = (
            f"sentinel monitor pool 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds pool 500",
            "sentinel failover-timeout pool 2000",
        )
        sentinel = stack.enter_context(running(redis_binary, *told, mode=("--sentinel",)))
        async with Redis.from_url(sentinel.url) as client, asyncio.timeout(60):
            while not await client.sentinel_slaves("pool"):
                await asyncio.sleep(0.1)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/pool"
        await share(url)
        async with quiet_replica(url) as sums:
            sums.add("group", {"n": 1.0})
            await flush_all(sums)
            async with asyncio.timeout(30):
                while await stored_sums(follower.url, "group") != {"n": 4.0}:
                    await asyncio.sleep(0.05)
            master.kill()
            sums.add("group", {"n": 1.0})
            await flush_all(sums, within_s=60)
        assert await stored_sums(follower.url, "group") == {"n": 5.0}
