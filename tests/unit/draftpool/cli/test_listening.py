"""Addresses to listen on."""

import socket

import pytest

from draftpool.cli.listening import free_port, require_free
from draftpool.errors import BadParameter


def test_a_free_address_passes_and_stays_free() -> None:
    address = f"127.0.0.1:{free_port()}"
    require_free(address)
    require_free(address)


def test_a_taken_address_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BadParameter, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            require_free(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["", "50050", ":50050", "host:", "host:port", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadParameter, match="host:port"):
        require_free(address)
