"""Certificates for tests, in folders as Kubernetes mounts secrets: links into a folder that is swapped as a whole."""

from __future__ import annotations

import datetime
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from draftpool.settings import TlsSettings

_FILES = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}


@dataclass(frozen=True)
class Pem:
    """A certificate, its key, and the authorities to believe."""

    cert: bytes
    key: bytes
    ca: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.cert).serial_number


class Authority:
    """Signs certificates, by default good ones for 127.0.0.1 that believe this authority."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, is_expired: bool = False, believes: bytes | None = None) -> Pem:
        now = datetime.datetime.now(datetime.UTC)
        until = now - datetime.timedelta(hours=1) if is_expired else now + datetime.timedelta(hours=1)
        issued = self._ca.issue_cert("127.0.0.1", *names, not_before=now - datetime.timedelta(days=1), not_after=until)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return Pem(chain, issued.private_key_pem.bytes(), believes or self.pem)

    def issue_spiffe(self, uri: str) -> Pem:
        """A certificate whose one name is a URI."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        ca_key = load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        cert = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.load_pem_x509_certificate(self.pem).subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pem(cert.public_bytes(Encoding.PEM), private, self.pem)


class Secret:
    """A mounted secret."""

    def __init__(self, folder: Path, pem: Pem) -> None:
        self.folder = folder
        folder.mkdir()
        self._version = 0
        self.swap(pem)
        for name in _FILES.values():
            (folder / name).symlink_to(Path("..data") / name)

    def swap(self, pem: Pem) -> None:
        """All files change at one moment."""
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        for field, name in _FILES.items():
            (version / name).write_bytes(getattr(pem, field))
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")

    @property
    def settings(self) -> TlsSettings:
        return TlsSettings(**{f"tls_{field}_file": self.folder / name for field, name in _FILES.items()})

    @property
    def environment(self) -> dict[str, str]:
        """The same, for processes."""
        return {f"DRAFTPOOL_TLS_{field.upper()}_FILE": str(self.folder / name) for field, name in _FILES.items()}


def served_serial(address: str, pem: Pem) -> int:
    """The serial number of the certificate that a server shows now, to a client with that one."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=pem.ca.decode())
    context.set_alpn_protocols(["h2"])

    with tempfile.NamedTemporaryFile() as file:
        file.write(pem.cert + pem.key)
        file.flush()
        context.load_cert_chain(file.name)
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
