"""Who is asking: whose share of the queue a request takes. Names of different origin never mix."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc

from draftpool.rpc.callers import caller_names
from draftpool.rpc.interceptors import CLIENT_ID_KEY

_MAX_CLIENT_ID_CHARS = 128

key_name: ContextVar[str | None] = ContextVar("key_name", default=None)
"""Of the API key that the running call has shown, once it was found to be good."""


def client_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Who has proven to be somebody is that: the name of its API key, else of its certificate.

    Where nobody has to prove anything, it is the name that the request brings in `x-client-id` (a gateway's word, or a
    client's own), else its address.
    """
    if (name := key_name.get()) is not None:
        return f"key:{name}"
    for name in caller_names(context):
        return f"cert:{name}"
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT_ID_KEY and isinstance(value, str) and value:
            return f"id:{value[:_MAX_CLIENT_ID_CHARS]}"
    return f"at:{_host(context.peer())}"


def _host(peer: str) -> str:
    """The peer as gRPC writes it, without the port, which changes with every connection: `ipv4:10.0.0.7`."""
    peer = unquote(peer)
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
