"""What an address says of who can reach it."""

import pytest

from draftpool.rpc.addresses import is_local

LOCAL = """
127.0.0.1:0  127.1.2.3:50050  [::1]:50050  localhost:1  unix:/run/draftpool  unix-abstract:x
dns:///localhost:50050  ipv4:127.0.0.1:1,127.0.0.2:1  ipv6:[::1]:1
"""
OPEN = """
0.0.0.0:50050  [::]:50050  :50050  10.0.0.1:1  example.org:1  dns:///draftpool:1  nonsense  ::
ipv4:127.0.0.1:1,10.0.0.1:1  127.0.0.1.example.org:1  localhost.example.org:1
"""


@pytest.mark.parametrize("address", LOCAL.split())
def test_loopback_and_sockets_are_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", [*OPEN.split(), ""])
def test_everything_else_is_not(address: str) -> None:
    assert not is_local(address)
