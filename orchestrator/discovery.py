"""Where a pool's replicas are: a seam, and the two simple ways to know. The third is Kubernetes' own.

A pool has any number of sources, each of which tells a set of addresses and tells it again when it changes.
What is at an address, and whether it works, is found out elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from draftpool.errors import BadParameter

log = logging.getLogger(__name__)

_DNS = "dns:///"
_KUBERNETES = "kubernetes:///"
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s\[\]:/,]+):(?P<port>[0-9]{1,5})")
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SERVICE = re.compile(rf"(?:(?P<namespace>{_LABEL})/)?(?P<service>{_LABEL}):(?P<port>{_LABEL})")
_MAX_PORT = 65535


class Discovery(Protocol):
    """A source of addresses."""

    def watch(self) -> AsyncIterator[frozenset[str]]:
        """The whole set of addresses (`host:port`), as soon as it is known and after every change.

        Ends when the set can change no more. A source that cannot be asked for a while tells nothing: what it
        told last stays true.
        """
        ...


@dataclass(frozen=True)
class StaticAddresses:
    """A list that never changes."""

    addresses: frozenset[str]

    async def watch(self) -> AsyncIterator[frozenset[str]]:
        yield self.addresses


@dataclass(frozen=True)
class DnsName:
    """All A and AAAA records of a name, asked for again and again: a headless Kubernetes service, for example."""

    host: str
    port: int
    refresh_s: float

    async def watch(self) -> AsyncIterator[frozenset[str]]:
        """No answer cannot be told from an answer without records: resolvers report both alike, and a cluster's name
        server that restarts has none for a moment. So neither takes anybody away. A replica that has really gone is
        found out by its health; keeping its address costs an attempt to connect.
        """
        known: frozenset[str] | None = None
        said = ""
        while True:
            found, problem = frozenset[str](), "no records"
            try:
                found = await self._resolve()
            except OSError as error:  # gaierror among them
                problem = str(error)
            if known is None or (found and found != known):
                known = found
                yield known
            if not found and problem != said:
                log.warning("%s cannot be resolved, %d addresses known stay: %s", self.host, len(known), problem)
            said = "" if found else problem
            await asyncio.sleep(self.refresh_s)

    async def _resolve(self) -> frozenset[str]:
        """Raises OSError. Runs in a thread, without a time limit: one would leave the thread behind, asking."""
        infos = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return frozenset(join_address(str(sockaddr[0]), self.port) for *_, sockaddr in infos)


def sources_of(entries: Sequence[str], *, dns_refresh_s: float) -> list[Discovery]:
    """The sources behind a setting's entries.

    Args:
        entries: `host:port`; `dns:///host:port` for all addresses of a name; `kubernetes:///service:port` or
            `kubernetes:///namespace/service:port` for the pods of a Service, the port by its number at the pods or by
            its name in the Service.

    Raises:
        BadParameter: an entry is none of these, or the client that it takes is not installed.
    """
    names = [DnsName(*_split(entry), dns_refresh_s) for entry in entries if entry.startswith(_DNS)]
    services = [_service(entry) for entry in entries if entry.startswith(_KUBERNETES)]
    addresses = frozenset(
        join_address(*_split(entry)) for entry in entries if not entry.startswith((_DNS, _KUBERNETES))
    )
    return [*([StaticAddresses(addresses)] if addresses else []), *names, *services]


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(entry: str) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port. Raises BadParameter."""
    match = _ADDRESS.fullmatch(entry.removeprefix(_DNS))
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise _no_address(entry)
    return match["host"].strip("[]"), int(match["port"])


def _service(entry: str) -> Discovery:
    """Raises BadParameter."""
    match = _SERVICE.fullmatch(entry.removeprefix(_KUBERNETES))
    if match is None or (match["port"].isdecimal() and not 0 < int(match["port"]) <= _MAX_PORT):
        raise _no_address(entry)
    try:
        from orchestrator.kubernetes_discovery import KubernetesService  # half a second and 50 MB: only where wanted
    except ModuleNotFoundError as error:
        raise BadParameter(f"{entry} needs the Kubernetes client ({error}): install draftpool[kubernetes]") from None
    port = match["port"]
    return KubernetesService(match["service"], int(port) if port.isdecimal() else port, match["namespace"])


def _no_address(entry: str) -> BadParameter:
    return BadParameter(
        f"an address is host:port, [IPv6]:port, {_DNS}host:port or {_KUBERNETES}[namespace/]service:port, not {entry!r}"
    )
