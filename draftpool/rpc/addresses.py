"""What an address says of who can reach it. Pure."""

from __future__ import annotations

import ipaddress

_SOCKETS = ("unix:", "unix-abstract:")
_SCHEMES = ("dns:///", "ipv4:", "ipv6:")


def is_local(address: str) -> bool:
    """Whether only this machine can be behind the address, or in front of it: loopback, or a socket file.

    Args:
        address: as gRPC takes it, to listen on or to connect to; of a list, all must be local. A name other than
            localhost can mean anything.
    """
    if address.startswith(_SOCKETS):
        return True
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    return all(_is_loopback(host_of(each)) for each in address.split(","))


def host_of(address: str) -> str:
    """`[::1]:50051` and `::1` are ::1."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
