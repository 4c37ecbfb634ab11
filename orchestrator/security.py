"""Who gets in at the public port."""

from __future__ import annotations

import logging
from dataclasses import replace

from draftpool.rpc.callers import certificate_security
from draftpool.rpc.identity_files import Identity, IdentityPaths
from draftpool.rpc.security import ServerSecurity, require_protection
from draftpool.settings import ServerSettings, TlsSettings
from draftpool.watched_files import WatchedFiles
from orchestrator.api_keys import watched_keys
from orchestrator.key_check import KeyCheck
from orchestrator.settings import OrchestratorSettings

log = logging.getLogger(__name__)


def public_security(
    settings: OrchestratorSettings, server_settings: ServerSettings, tls: TlsSettings
) -> ServerSecurity:
    """Clients show API keys, certificates, both, or, where nobody else can reach the port, nothing.

    Raises:
        BadParameter: files that cannot be used, clients that cannot be checked as the settings say, or a port that
            would be open to other machines.
    """
    by_certificate = certificate_security(
        _public_identity(settings, tls),
        server_settings.allowed_callers,
        is_required=settings.require_client_certificates,
    )
    security = _with_keys(by_certificate, settings)
    require_protection(server_settings.listen, security, insecure=server_settings.insecure)
    return security


def _with_keys(security: ServerSecurity, settings: OrchestratorSettings) -> ServerSecurity:
    if settings.api_keys_file is None:
        return security
    keys = watched_keys(settings.api_keys_file)
    log.info("%d API keys are known", len(keys.current()))
    return replace(security, has_api_keys=True, interceptors=(*security.interceptors, KeyCheck(keys)))


def _public_identity(settings: OrchestratorSettings, tls: TlsSettings) -> WatchedFiles[Identity] | None:
    """The certificate for clients, else the one for other services; None where there is neither."""
    if settings.public_cert_file is not None or settings.public_key_file is not None:
        return IdentityPaths(settings.public_cert_file, settings.public_key_file, tls.tls_ca_file).watched()
    return tls.identity() if tls.tls_cert_file is not None else None
