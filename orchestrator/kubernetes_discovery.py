"""The pods of a Kubernetes Service, from its EndpointSlices: listed once, then watched.

Unlike a resolver, the API server says with authority that nobody is there. While it cannot be asked, all stays as it
was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from orchestrator.endpoint_slices import EndpointSlices
from orchestrator.slice_api import slice_api
from orchestrator.slice_troubles import Outage, Trouble

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KubernetesService:
    """The endpoints of a Service that are ready and not terminating.

    Attributes:
        port: of the pods, a number; or its name in the Service.
        namespace: None for the orchestrator's own.
        watch_s: after which a watch is renewed; one that has died without a word is noticed some seconds later.
        refused_pause_s: between attempts that fail until somebody does something about it.
    """

    service: str
    port: int | str
    namespace: str | None = None
    watch_s: float = 60.0
    refused_pause_s: float = 30.0

    def __str__(self) -> str:
        return f"kubernetes:///{self.namespace + '/' if self.namespace else ''}{self.service}:{self.port}"

    async def watch(self) -> AsyncIterator[frozenset[str]]:
        """What is known of the slices outlives every trouble."""
        slices = EndpointSlices(self.port)
        outage = Outage(str(self), lasting_pause_s=self.refused_pause_s)
        told: frozenset[str] | None = None
        while True:
            async with aclosing(self._changes(slices, outage)) as changes:
                async for _ in changes:
                    if slices.addresses != told:
                        told = slices.addresses
                        self._check_port(slices)
                        yield told
            await asyncio.sleep(outage.pause_s)

    async def _changes(self, slices: EndpointSlices, outage: Outage) -> AsyncGenerator[None]:
        """Yields whenever something has been learned. Ends at the first trouble, with it in the outage; only a watch
        that gets somewhere ends an outage, or a list that is followed by a refusal would be asked for without a pause.
        """
        try:
            async with slice_api(self.service, self.namespace) as api:
                while True:
                    if slices.version is None:
                        slices.replace(await api.list())
                        yield
                        continue
                    async with aclosing(api.watch(slices.version, self.watch_s)) as events:
                        async for event in events:
                            slices.apply(event)
                            outage.end()
                            yield
                    outage.end()
        except Trouble as trouble:
            if trouble.must_list:
                slices.version = None
            outage.add(trouble)

    def _check_port(self, slices: EndpointSlices) -> None:
        if slices.lacks_port:
            names = ", ".join(map(repr, slices.port_names)) or "none"
            log.warning("%s: the Service has no port of that name; it has %s", self, names)
