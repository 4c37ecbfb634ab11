"""Who is asking: whose share of the queue a request takes. Nothing else may depend on it while it is not proven."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import grpc

from draftpool.rpc.interceptors import CLIENT_ID_KEY

_MAX_CLIENT_ID_CHARS = 128


def client_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The name that a request brings in `x-client-id` (a gateway's word, or a client's own), else its address.

    The two never mix: a name cannot be taken for somebody's address.
    """
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT_ID_KEY and isinstance(value, str) and value:
            return f"id:{value[:_MAX_CLIENT_ID_CHARS]}"
    return f"at:{_host(context.peer())}"


def _host(peer: str) -> str:
    """The peer as gRPC writes it, without the port, which changes with every connection: `ipv4:10.0.0.7`."""
    peer = unquote(peer)
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
