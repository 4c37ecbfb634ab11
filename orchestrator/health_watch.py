"""One open `Health.Watch` stream a replica: a server that drains says so, one that dies breaks the stream.

A server that hangs is found out by the channel's keepalive, which watches a connection with a call on it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from draftpool.rpc.unreachable import why_unreachable
from orchestrator.replicas import Health, Replica

_FIRST_WORD_S = 10.0
_ASK_AGAIN_S = 30.0
"""Whoever has no health service may get one with its next release."""
_RENEW_S = 3600.0
"""A watch is opened anew now and then, or it would hold on to a connection whose certificate is long replaced."""
_HASTE = 8
"""The first pause is this part of the longest."""


async def watch_health(replica: Replica, *, max_pause_s: float, renew_s: float = _RENEW_S) -> None:
    """Tell a replica its health, for as long as this runs.

    Args:
        max_pause_s: between two attempts; the first pauses are shorter, and all are jittered.
        renew_s: how long one watch lasts.
    """
    stub = health_pb2_grpc.HealthStub(replica.channel)
    pause_s = max_pause_s / _HASTE
    while True:
        # Once it is known to be away, the channel's own attempts to reconnect tell first that it is back.
        is_lost = replica.health is Health.LOST
        call = stub.Watch(health_pb2.HealthCheckRequest(), timeout=renew_s, wait_for_ready=is_lost)
        was_serving = False
        try:
            async with asyncio.timeout(_FIRST_WORD_S):
                reply = await call.read()
            while _is_serving(reply):
                was_serving = True
                replica.report_health(Health.SERVING)
                reply = await call.read()
            health = Health.LOST if reply is grpc.aio.EOF else Health.NOT_SERVING
        except TimeoutError:
            health = Health.LOST
        except grpc.aio.AioRpcError as error:
            if was_serving and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                continue
            if not was_serving and (why := why_unreachable(error.details() or "")):
                replica.say_once(f"{replica.address} cannot be reached: {why}")
            health = Health.UNTOLD if error.code() is grpc.StatusCode.UNIMPLEMENTED else Health.LOST
        finally:
            call.cancel()  # a server that drains would wait for the stream's end
        replica.report_health(health)
        pause_s = max_pause_s / _HASTE if was_serving else min(2 * pause_s, max_pause_s)
        await asyncio.sleep(_ASK_AGAIN_S if health is Health.UNTOLD else pause_s * random.uniform(0.5, 1))


def _is_serving(reply: Any) -> bool:
    return reply is not grpc.aio.EOF and reply.status == health_pb2.HealthCheckResponse.SERVING
