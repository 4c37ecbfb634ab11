"""Whose share of the queue a request takes."""

from contextvars import copy_context

import pytest

from orchestrator.client_identity import client_of, key_name


class Call:
    """What `client_of` reads of a call."""

    def __init__(
        self, peer: str, *metadata: tuple[str, str | bytes], certificate_names: list[bytes] | None = None
    ) -> None:
        self._peer, self._metadata, self._certificate_names = peer, metadata, certificate_names or []

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_subject_alternative_name": self._certificate_names} if self._certificate_names else {}

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        return self._metadata or None


@pytest.mark.parametrize(
    ("peers", "client"),
    [
        (("ipv4:10.0.0.7:41000", "ipv4:10.0.0.7:41001"), "at:ipv4:10.0.0.7"),
        (("ipv6:%5B::1%5D:41000", "ipv6:[::1]:41001"), "at:ipv6:[::1]"),
        (("unix:",), "at:unix:"),
    ],
)
def test_connections_from_one_address_are_one_client(peers: tuple[str, ...], client: str) -> None:
    assert {client_of(Call(peer)) for peer in peers} == {client}  # type: ignore[arg-type]


def test_a_name_goes_before_the_address_and_is_cut_where_it_is_too_long() -> None:
    peer = "ipv4:10.0.0.7:41000"
    assert client_of(Call(peer, ("x-client-id", "team-a"))) == "id:team-a"  # type: ignore[arg-type]
    assert client_of(Call(peer, ("x-client-id", "x" * 1000))) == "id:" + "x" * 128  # type: ignore[arg-type]
    assert client_of(Call(peer, ("x-client-id", ""))) == "at:ipv4:10.0.0.7"  # type: ignore[arg-type]


def test_no_name_is_taken_for_an_address() -> None:
    named = client_of(Call("ipv4:10.0.0.8:1", ("x-client-id", "ipv4:10.0.0.7")))  # type: ignore[arg-type]
    assert named != client_of(Call("ipv4:10.0.0.7:1"))  # type: ignore[arg-type]


def test_who_has_proven_to_be_somebody_is_that_whatever_it_says() -> None:
    peer, says = "ipv4:10.0.0.7:41000", ("x-client-id", "key:bob")
    certified = Call(peer, says, certificate_names=[b"spiffe://example/gateway", b"gateway"])
    assert client_of(certified) == "cert:spiffe://example/gateway"  # type: ignore[arg-type]
    context = copy_context()
    context.run(key_name.set, "alice")
    assert context.run(client_of, certified) == "key:alice"
    assert context.run(client_of, Call(peer, says)) == "key:alice"
    assert client_of(Call(peer, says)) == "id:key:bob"  # type: ignore[arg-type]
