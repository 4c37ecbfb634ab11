"""How long the certificates that a service shows are good for."""

from __future__ import annotations

import math
from typing import NamedTuple

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
LIFETIME = Gauge(
    "draftpool_tls_certificate_lifetime_seconds",
    "How long that certificate is valid in all, in seconds; by file. The share that is left tells whether somebody "
    "should have renewed it by now.",
    ["file"],
)


def watch_expiration(identity: WatchedFiles[Identity] | None) -> None:
    """Tell it whenever the metrics are read, of what the files hold then; nothing where no certificate is shown."""
    file = None if identity is None else identity.current().certificate_file
    if identity is not None and file is not None:
        EXPIRATION.labels(str(file)).set_function(lambda: _validity(identity.current()).ends_at)
        LIFETIME.labels(str(file)).set_function(lambda: _validity(identity.current()).lifetime_s)


class _Validity(NamedTuple):
    """In Unix seconds."""

    begins_at: float
    ends_at: float

    @property
    def lifetime_s(self) -> float:
        return self.ends_at - self.begins_at


def _validity(identity: Identity) -> _Validity:
    """Of the certificate that expires first."""
    try:
        chain = x509.load_pem_x509_certificates(identity.certificate_chain or b"")
    except ValueError:  # of what OpenSSL takes and this does not; the other metrics shall still be told
        return _Validity(math.nan, math.nan)
    first = min(chain, key=lambda certificate: certificate.not_valid_after_utc)
    return _Validity(first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp())
