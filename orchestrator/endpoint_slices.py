"""What the EndpointSlices of one Service say about where its pods are. Pure.

Slices are taken as the API server's JSON has them, not as the client's model classes: servers write `null` for an
empty list, and a field that a later release adds must not make a slice unreadable.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.discovery import join_address

Json = dict[str, Any]


@dataclass
class EndpointSlices:
    """The slices of one Service, as the API server told them last.

    Attributes:
        port: of the pods, a number; or the name that the Service gives it, which each slice turns into a number.
        version: of the newest change that is in here, for the server alone to interpret; None: the slices must be
            listed, as nothing is known yet or the server has forgotten what came after.
    """

    port: int | str
    version: str | None = None
    _by_name: dict[str, Json] = field(default_factory=dict)

    def replace(self, listed: Json) -> None:
        """Take a list's answer for all there is."""
        self._by_name = {item["metadata"]["name"]: item for item in listed.get("items") or ()}
        self.version = listed["metadata"]["resourceVersion"]

    def apply(self, event: Json) -> None:
        """Take one event of a watch, an error excepted. Kinds that nobody knows yet move the version only."""
        told = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            self._by_name[told["metadata"]["name"]] = told
        elif event["type"] == "DELETED":
            self._by_name.pop(told["metadata"]["name"], None)
        self.version = told["metadata"]["resourceVersion"]

    @property
    def addresses(self) -> frozenset[str]:
        """`host:port` of every endpoint that should get new work.

        A pod that has addresses of both families is one replica, and is told by its IPv4 address.
        """
        by_pod: dict[str, str] = {}
        for item in sorted(self._by_name.values(), key=_family, reverse=True):
            port = self._port_in(item)
            if port is None:
                continue
            for endpoint in _able(item):
                address = join_address(endpoint["addresses"][0], port)  # further ones are the same endpoint again
                by_pod[(endpoint.get("targetRef") or {}).get("uid", address)] = address
        return frozenset(by_pod.values())

    @property
    def lacks_port(self) -> bool:
        """Whether there are slices and none of them has a port of that name."""
        return bool(self._by_name) and all(self._port_in(item) is None for item in self._by_name.values())

    @property
    def port_names(self) -> list[str]:
        """Of all slices, sorted."""
        return sorted({port.get("name") or "" for item in self._by_name.values() for port in item.get("ports") or ()})

    def _port_in(self, item: Json) -> int | None:
        if isinstance(self.port, int):
            return self.port
        numbers = (port.get("port") for port in item.get("ports") or () if (port.get("name") or "") == self.port)
        return next(numbers, None)


def _family(item: Json) -> str:
    return str(item["addressType"])


def _able(item: Json) -> Iterator[Json]:
    """Endpoints that are ready, which they are too where nothing is said, and not about to end.

    A Service may publish pods that are not ready; such endpoints are called ready even while they terminate.
    """
    for endpoint in item.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready") is not False and not conditions.get("terminating"):
            yield endpoint
