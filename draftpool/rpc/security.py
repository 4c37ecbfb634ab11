"""What stands between the network and a server, and the rule that something must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from draftpool.errors import BadParameter
from draftpool.rpc.addresses import is_local
from draftpool.rpc.identity_files import Identity
from draftpool.watched_files import WatchedFiles


@dataclass(frozen=True)
class ServerSecurity:
    """How a server knows whom it serves. The default knows nobody, which is good enough for loopback alone.

    Attributes:
        identity: the server's certificate, and the authorities of its callers'; None speaks plain text.
        requires_certificates: only callers whose certificate the authorities signed get through the handshake.
        has_api_keys: whether the server's own interceptors let nobody in without a key.
        interceptors: what every call passes besides.

    Raises:
        BadParameter: what is asked of callers cannot be checked.
    """

    identity: WatchedFiles[Identity] | None = None
    requires_certificates: bool = False
    has_api_keys: bool = False
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = ()

    def __post_init__(self) -> None:
        held = None if self.identity is None else self.identity.current()
        if held is not None and held.certificate_chain is None:
            raise BadParameter("a server with TLS needs a certificate and its key: tls_cert_file and tls_key_file")
        if self.requires_certificates and (held is None or held.authorities is None):
            raise BadParameter("to ask callers for certificates, tls_ca_file must name who signs them")

    @property
    def is_encrypted(self) -> bool:
        return self.identity is not None

    @property
    def is_authenticated(self) -> bool:
        return self.requires_certificates or self.has_api_keys


def require_protection(listen: str, security: ServerSecurity, *, insecure: bool) -> None:
    """Nothing listens to a network without TLS and without asking who calls, unless told so.

    Raises:
        BadParameter: it would.
    """
    if not insecure and (lacks := lacking_protection(listen, security)):
        raise BadParameter(
            f"{listen} can be reached from other machines, and this service has {lacks}; see docs/security.md, or say "
            "--insecure (DRAFTPOOL_SERVER_INSECURE=true) if something else protects it"
        )


def lacking_protection(listen: str, security: ServerSecurity) -> str:
    """What a server lacks at that address, for a sentence; empty where it lacks nothing."""
    if is_local(listen):
        return ""
    lacks = [
        *([] if security.is_encrypted else ["no TLS (--tls-cert-file, --tls-key-file, --tls-ca-file)"]),
        *([] if security.is_authenticated else ["no check of who calls (client certificates, API keys)"]),
    ]
    return " and ".join(lacks)


def add_port(server: grpc.aio.Server, listen: str, security: ServerSecurity) -> int:
    """Let a server listen. Returns the port. Raises RuntimeError where the address cannot be bound."""
    if security.identity is None:
        return server.add_insecure_port(listen)
    return server.add_secure_port(listen, _credentials(security.identity, security.requires_certificates))


def _credentials(identity: WatchedFiles[Identity], requires_certificates: bool) -> grpc.ServerCredentials:
    """Credentials whose files are looked at again before every handshake; open connections are left alone."""
    in_use = identity.current()

    def renewed() -> Any:  # None for no change; its stubs do not know
        nonlocal in_use
        held = identity.current()
        if held is in_use:
            return None
        in_use = held
        return _configuration(held)

    return grpc.dynamic_ssl_server_credentials(_configuration(in_use), renewed, requires_certificates)


def _configuration(held: Identity) -> grpc.ServerCertificateConfiguration:
    if held.private_key is None or held.certificate_chain is None:
        raise ValueError("a server has a certificate")
    return grpc.ssl_server_certificate_configuration([(held.private_key, held.certificate_chain)], held.authorities)
