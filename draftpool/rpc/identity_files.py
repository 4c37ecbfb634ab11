"""A service's TLS identity, and whom it believes: a certificate, its private key, and authorities, in PEM files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from draftpool.errors import BadParameter
from draftpool.watched_files import WatchedFiles


@dataclass(frozen=True)
class Identity:
    """What the files held at one moment, checked to belong together.

    Attributes:
        certificate_chain: PEM, the own certificate first; None has no identity and can only look at others'.
        private_key: of the first certificate; PEM.
        authorities: PEM certificates that others' must be signed by; None leaves it to gRPC's public ones.
        certificate_file: where the chain is from.
    """

    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    authorities: bytes | None = None
    certificate_file: Path | None = None


@dataclass(frozen=True)
class IdentityPaths:
    """Where the files are. A certificate and its key come together."""

    cert_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None

    def watched(self) -> WatchedFiles[Identity]:
        """The identity in the files, whenever it is asked for.

        Raises:
            BadParameter: a file is missing or no PEM, or key and certificate are not of one pair.
        """
        if (self.cert_file is None) != (self.key_file is None):
            raise BadParameter("a TLS certificate and its key come together: give both files or none")
        paths = [path for path in (self.cert_file, self.key_file, self.ca_file) if path is not None]
        return WatchedFiles(paths, partial(_read, self))


def _read(paths: IdentityPaths) -> Identity:
    """Raises BadParameter, whose message holds paths and no contents, or OSError."""
    chain, key, authorities = map(_contents, (paths.cert_file, paths.key_file, paths.ca_file))
    identity = Identity(chain, key, authorities, paths.cert_file)
    if paths.cert_file is not None and paths.key_file is not None:
        _check_pair(paths.cert_file, paths.key_file)
    if paths.ca_file is not None:
        _check_authorities(paths.ca_file)
    return identity


def _contents(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _check_pair(cert_file: Path, key_file: Path) -> None:
    try:
        # Without a password OpenSSL would ask the terminal for the one of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        raise BadParameter(
            f"{cert_file} and {key_file} are no PEM certificate and its unencrypted key: {error.reason or error}"
        ) from None


def _no_password() -> str:
    return ""


def _check_authorities(ca_file: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise BadParameter(f"{ca_file} holds no PEM certificates: {error.reason or error}") from None
