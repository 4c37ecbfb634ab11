"""Who is on the other end of a mutual TLS connection, and whether it may call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import grpc

from draftpool.errors import BadParameter, NotAllowed
from draftpool.rpc.identity_files import Identity
from draftpool.rpc.interceptors import Context, Handler, around_calls
from draftpool.rpc.security import ServerSecurity, require_protection
from draftpool.settings import ServerSettings, TlsSettings
from draftpool.watched_files import WatchedFiles

_NAMES = "x509_subject_alternative_name"


def caller_names(context: Context) -> Sequence[str]:
    """What the caller's certificate, checked in the handshake, calls it: DNS names, URIs (SPIFFE's), addresses.

    Empty where the server did not ask for a certificate, or it carries none of these.
    """
    return [name.decode() for name in context.auth_context().get(_NAMES, ())]


class CallerCheck(grpc.aio.ServerInterceptor):
    """Lets only callers with one of some names in.

    Health and reflection answer everyone who got through the handshake.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        return around_calls(handler, self._checked)

    @asynccontextmanager
    async def _checked(self, context: Context) -> AsyncIterator[None]:
        names = caller_names(context)
        if self._allowed.isdisjoint(names):
            raise NotAllowed(f"this service is not for {', '.join(names) or 'a caller without a name'}")
        yield


def for_services(tls: TlsSettings, settings: ServerSettings) -> ServerSecurity:
    """Of a server that other services call and nobody else: with TLS, callers show certificates.

    Raises:
        BadParameter: callers cannot be checked as the settings say, or the server would be open to other machines.
    """
    identity = tls.identity()
    security = certificate_security(identity, settings.allowed_callers, is_required=identity is not None)
    require_protection(settings.listen, security, insecure=settings.insecure)
    return security


def certificate_security(
    identity: WatchedFiles[Identity] | None, allowed_callers: Sequence[str], *, is_required: bool
) -> ServerSecurity:
    """Where it is required, callers show certificates, and carry one of the allowed names if there are any.

    Raises:
        BadParameter: there is nothing to check certificates by, or no certificate to find a name in.
    """
    if allowed_callers and not is_required:
        raise BadParameter("allowed callers are known by the certificates they show, and this service asks for none")
    return ServerSecurity(
        identity,
        requires_certificates=is_required,
        interceptors=(CallerCheck(allowed_callers),) if allowed_callers else (),
    )
