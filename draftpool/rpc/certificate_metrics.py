"""How long the certificates that a service shows are good for."""

from __future__ import annotations

import math

from cryptography import x509
from prometheus_client import Gauge

from draftpool.rpc.identity_files import Identity
from draftpool.watched_files import WatchedFiles

EXPIRATION = Gauge(
    "draftpool_tls_certificate_expiration_timestamp_seconds",
    "When the certificate that this service shows expires, or the first of those that lead to its authority, in Unix "
    "seconds; by file.",
    ["file"],
)


def watch_expiration(identity: WatchedFiles[Identity] | None) -> None:
    """Tell it whenever the metrics are read, of what the files hold then; nothing where no certificate is shown."""
    file = None if identity is None else identity.current().certificate_file
    if identity is not None and file is not None:
        EXPIRATION.labels(str(file)).set_function(lambda: _expires_at(identity.current()))


def _expires_at(identity: Identity) -> float:
    """In Unix seconds."""
    try:
        chain = x509.load_pem_x509_certificates(identity.certificate_chain or b"")
    except ValueError:  # of what OpenSSL takes and this does not; the other metrics shall still be told
        return math.nan
    return min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
