"""Whether an address can be listened on, asked before anything slow begins."""

from __future__ import annotations

import socket

from draftpool.errors import BadParameter

_MAX_PORT = 65_535


def require_free(address: str) -> None:
    """Take the address for a moment.

    Raises:
        BadParameter: it is not host:port, or somebody listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise BadParameter(f"an address is host:port with a port up to {_MAX_PORT}, got {address!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; else a recent one blocks it
            probe.bind((host.strip("[]"), int(port)))
            probe.listen()
    except OSError as error:
        raise BadParameter(f"cannot listen on {address}: {error.strerror}") from None


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot tell which one they took."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
