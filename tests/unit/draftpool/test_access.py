"""What a client shows, where it has it from, and that it shows it to nobody else."""

from pathlib import Path

import pytest

from draftpool.access import access_to
from draftpool.client import Client
from draftpool.errors import BadParameter, NoSecureConnection
from draftpool.rpc.security import ServerSecurity
from draftpool.settings import TlsSettings
from tests.certificates import Authority, Secret
from tests.unit.orchestrator.fake_services import FakeVerifier
from tests.unit.orchestrator.serving import orchestrator_of

KEY = "dp_geheim"
FAR = "draftpool.example:50050"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_KEY_FILE", "TLS", "TLS_CA_FILE", "CLIENT_INSECURE"):
        monkeypatch.delenv(f"DRAFTPOOL_{name}", raising=False)


def test_a_key_comes_from_the_argument_else_the_environment_else_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("dp_file\n")
    monkeypatch.setenv("DRAFTPOOL_API_KEY_FILE", str(tmp_path / "key"))
    assert access_to("localhost:1").api_key == "dp_file"
    monkeypatch.setenv("DRAFTPOOL_API_KEY", "dp_environment")
    assert access_to("localhost:1").api_key == "dp_environment"
    assert access_to("localhost:1", api_key="dp_argument").api_key == "dp_argument"


def test_a_key_is_not_sent_to_another_machine_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadParameter, match="in plain text") as refused:
        Client(FAR, api_key=KEY)
    assert KEY not in str(refused.value)
    assert access_to("ipv4:127.0.0.1:1,127.0.0.1:2", api_key=KEY).api_key == KEY
    assert access_to(FAR).api_key is None
    monkeypatch.setenv("DRAFTPOOL_CLIENT_INSECURE", "true")
    assert access_to(FAR, api_key=KEY).api_key == KEY


def test_public_authorities_are_believed_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTPOOL_TLS", "true")
    access = access_to(FAR, api_key=KEY)
    assert access.tls is not None
    assert access.tls.identity.current().authorities is None


@pytest.mark.parametrize("key", ["", "dp_x y", "dp_x\n", "dp_ü"])
def test_what_can_be_no_key_is_refused_before_it_is_sent(key: str) -> None:
    with pytest.raises(BadParameter, match="no key has"):
        access_to("localhost:1", api_key=key)


def test_a_key_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRAFTPOOL_API_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(BadParameter, match="nowhere: FileNotFoundError"):
        access_to("localhost:1")


def test_a_key_is_in_no_repr() -> None:
    assert KEY not in repr(access_to("localhost:1", api_key=KEY))


async def test_a_client_believes_the_server_or_says_why_not(tmp_path: Path) -> None:
    authority = Authority()
    secret = Secret(tmp_path / "server", authority.issue())
    (tmp_path / "other.crt").write_bytes(Authority().pem)
    security = ServerSecurity(secret.settings.identity())
    async with orchestrator_of(FakeVerifier(), security=security) as address:
        async with Client(address, tls=TlsSettings(tls_ca_file=secret.settings.tls_ca_file)) as client:
            assert [model.name for model in await client.list_models(timeout_s=60)] == ["alphabet"]
            answer = await client.complete("alphabet", [0], temperature=0, max_new_tokens=4)
            assert answer.text == "bcde"
        async with Client(address, tls=TlsSettings(tls_ca_file=tmp_path / "other.crt")) as client:
            with pytest.raises(NoSecureConnection, match="its certificate is not believed"):
                await client.list_models(timeout_s=60)
        async with Client(address) as client:
            with pytest.raises(NoSecureConnection, match="it may want TLS"):
                await client.list_models(timeout_s=60)
