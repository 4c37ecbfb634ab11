"""What the metrics say of certificates, as they are while a server runs."""

import time
from pathlib import Path

import pytest
import trustme
from prometheus_client import REGISTRY

from draftpool.rpc.certificate_metrics import watch_expiration
from draftpool.rpc.identity_files import IdentityPaths
from draftpool.rpc.security import ServerSecurity
from draftpool.rpc.server import served_beside
from tests.certificates import Authority, Pem, Secret

HOUR_S = 3600


def expires_in_s(file: Path) -> float | None:
    at = REGISTRY.get_sample_value("draftpool_tls_certificate_expiration_timestamp_seconds", {"file": str(file)})
    return None if at is None else at - time.time()


def lifetime_s(file: Path) -> float | None:
    return REGISTRY.get_sample_value("draftpool_tls_certificate_lifetime_seconds", {"file": str(file)})


async def test_the_end_of_a_server_s_certificate_is_told_and_stays_true_when_it_is_replaced(tmp_path: Path) -> None:
    ours = Authority()
    secret = Secret(tmp_path / "secret", ours.issue(is_expired=True))
    file = secret.folder / "tls.crt"
    async with served_beside([], "127.0.0.1:0", ServerSecurity(secret.settings.identity())):
        assert expires_in_s(file) == pytest.approx(-HOUR_S, abs=300)
        assert lifetime_s(file) == 23 * HOUR_S
        secret.swap(ours.issue())
        assert expires_in_s(file) == pytest.approx(HOUR_S, abs=300)
        assert lifetime_s(file) == 25 * HOUR_S
        (secret.folder / "..data" / "tls.crt").write_text("nonsense")
        assert expires_in_s(file) == pytest.approx(HOUR_S, abs=300), "what is shown is the last good one"


def test_of_a_chain_the_first_end_counts(tmp_path: Path) -> None:
    leaf = trustme.CA().create_child_ca().issue_cert("127.0.0.1")
    late = Authority().issue(is_expired=True).cert
    chain = leaf.cert_chain_pems[0].bytes() + late
    secret = Secret(tmp_path / "secret", Pem(chain, leaf.private_key_pem.bytes(), Authority().pem))
    watch_expiration(secret.settings.identity())
    assert expires_in_s(secret.folder / "tls.crt") == pytest.approx(-HOUR_S, abs=300)


def test_who_shows_nothing_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    watch_expiration(IdentityPaths(ca_file=tmp_path / "ca.crt").watched())
    watch_expiration(None)
    assert expires_in_s(tmp_path / "ca.crt") is None
