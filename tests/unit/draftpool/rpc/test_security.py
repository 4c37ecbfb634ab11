"""Nothing listens to a network unprotected unless told so, and what cannot be checked is refused at start."""

from pathlib import Path

import pytest

from draftpool.errors import BadParameter
from draftpool.rpc.callers import for_services
from draftpool.rpc.identity_files import Identity
from draftpool.rpc.security import ServerSecurity, require_protection
from draftpool.rpc.server import serve
from draftpool.settings import NO_TLS, ServerSettings, TlsSettings
from tests.certificates import Authority, Secret

EVERYWHERE = "0.0.0.0:0"


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path / "secret", Authority().issue())


@pytest.mark.parametrize("listen", [EVERYWHERE, "[::]:0", ":0", "10.1.2.3:50051"])
async def test_a_network_is_not_served_without_tls(listen: str) -> None:
    with pytest.raises(BadParameter, match=r"has no TLS .* and no check of who calls .*DRAFTPOOL_SERVER_INSECURE=true"):
        await serve([], ServerSettings(listen=listen))
    with pytest.raises(BadParameter, match="has no TLS"):
        for_services(NO_TLS, ServerSettings(listen=listen))


def test_tls_alone_says_nothing_of_who_calls(secret: Secret) -> None:
    security = ServerSecurity(secret.settings.identity())
    with pytest.raises(BadParameter, match=r"has no check of who calls .*; see"):
        require_protection(EVERYWHERE, security, insecure=False)


def test_keys_over_plain_text_are_no_protection() -> None:
    with pytest.raises(BadParameter, match=r"has no TLS [^;]*\); see"):
        require_protection(EVERYWHERE, ServerSecurity(has_api_keys=True), insecure=False)


def test_mutual_tls_is_enough_and_so_is_being_told(secret: Secret) -> None:
    assert for_services(secret.settings, ServerSettings(listen=EVERYWHERE)).requires_certificates
    for_services(NO_TLS, ServerSettings(listen=EVERYWHERE, insecure=True))


def test_loopback_needs_nothing() -> None:
    for_services(NO_TLS, ServerSettings(listen="127.0.0.1:0"))


def test_services_with_tls_need_authorities_for_their_callers(secret: Secret) -> None:
    alone = secret.settings.model_copy(update={"tls_ca_file": None})
    with pytest.raises(BadParameter, match="tls_ca_file must name who signs"):
        for_services(alone, ServerSettings())


def test_a_server_cannot_have_tls_without_a_certificate(secret: Secret) -> None:
    with pytest.raises(BadParameter, match="tls_cert_file and tls_key_file"):
        for_services(TlsSettings(tls_ca_file=secret.settings.tls_ca_file), ServerSettings())


def test_names_to_check_need_certificates_to_find_them_in() -> None:
    with pytest.raises(BadParameter, match="asks for none"):
        for_services(NO_TLS, ServerSettings(allowed_callers=("orchestrator",)))


def test_a_key_that_is_not_the_certificate_s_is_told_by_the_files_names(secret: Secret, tmp_path: Path) -> None:
    other = Secret(tmp_path / "other", Authority().issue())
    mixed = secret.settings.model_copy(update={"tls_key_file": other.settings.tls_key_file})
    with pytest.raises(BadParameter, match=r"secret/tls.crt and .*other/tls.key are no PEM certificate and its"):
        mixed.identity()


@pytest.mark.parametrize("field", ["tls_cert_file", "tls_key_file", "tls_ca_file"])
def test_files_that_are_no_pem_are_told_without_their_contents(secret: Secret, tmp_path: Path, field: str) -> None:
    (tmp_path / "garbage").write_text("geheim")
    with pytest.raises(BadParameter, match="garbage") as told:
        secret.settings.model_copy(update={field: tmp_path / "garbage"}).identity()
    assert "geheim" not in str(told.value)


def test_a_certificate_without_its_key_is_refused(secret: Secret) -> None:
    with pytest.raises(BadParameter, match="give both files or none"):
        secret.settings.model_copy(update={"tls_key_file": None}).identity()


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(secret: Secret, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((secret.folder / "tls.key").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"geheim"),
    )
    (tmp_path / "encrypted.key").write_bytes(encrypted)
    with pytest.raises(BadParameter, match="unencrypted key"):
        secret.settings.model_copy(update={"tls_key_file": tmp_path / "encrypted.key"}).identity()


def test_a_private_key_is_in_no_repr(secret: Secret) -> None:
    held = secret.settings.identity()
    assert held is not None
    assert "PRIVATE KEY" not in repr(held.current())
    assert "CERTIFICATE" in repr(held.current())
    assert "geheim" not in repr(Identity(private_key=b"geheim"))
