"""A client for every kind of address, with every wait bounded."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orchestrator.sharing.address import RedisAddress
from orchestrator.sharing.merge import Client

_TIMEOUT_S = 2.0


def open_client(address: RedisAddress, *, timeout_s: float = _TIMEOUT_S) -> Client:
    """A client that connects when it is first used. It never tries again by itself: the caller decides when.

    Args:
        timeout_s: for connecting, and for each answer.
    """
    common = _connection_options(address, timeout_s)
    options = common | {"username": address.username, "password": address.password}
    if address.kind == "socket":
        return Redis(unix_socket_path=address.path, db=address.db, **options)
    if address.kind == "sentinel":
        return _master(address, options, common)
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, **options)
    [(host, port)] = address.hosts
    return Redis(host=host, port=port, db=address.db, **options)


def _master(address: RedisAddress, options: dict[str, Any], common: dict[str, Any]) -> Redis:
    credentials = {name: address.options.get(f"sentinel_{name}") for name in ("username", "password")}
    sentinel_options = common | credentials
    sentinels = Sentinel(address.hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    master: Redis = sentinels.master_for(address.service, db=address.db, **options)
    return master


def _connection_options(address: RedisAddress, timeout_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": 2,  # no notifications that would stretch the timeouts; known to every server and proxy
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "client_name": "draftpool",
    }
    if address.is_tls:
        tls = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
        check_hostname = tls.pop("ssl_check_hostname", "true") == "true" and tls.get("ssl_cert_reqs") != "none"
        options |= {"ssl": True, "ssl_check_hostname": check_hostname, **tls}
    return options
