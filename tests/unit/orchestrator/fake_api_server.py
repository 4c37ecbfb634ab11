"""A Kubernetes API server as far as EndpointSlices go: real HTTP on loopback, lists and watches as kube-apiserver does
them. `kubectl --server=http://127.0.0.1:PORT get endpointslices --watch` works against it.

Versions grow with every change of anything; a log keeps the changes until it is compacted, and a watch from before that
is refused: with an event in the watch, as the watch cache does it, or with the status of the answer.
"""

import asyncio
import contextlib
import copy
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Json = dict[str, Any]

COLLECTION = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
_USER = "system:serviceaccount:pools:orchestrator"
_GROUP_VERSION = {"groupVersion": "discovery.k8s.io/v1", "version": "v1"}
_WHAT_THERE_IS: dict[str, Json] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {"name": "discovery.k8s.io", "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION},
        ],
    },
    "/apis/discovery.k8s.io/v1": {
        "kind": "APIResourceList",
        "groupVersion": "discovery.k8s.io/v1",
        "resources": [
            {
                "name": "endpointslices",
                "singularName": "endpointslice",
                "namespaced": True,
                "kind": "EndpointSlice",
                "verbs": ["list", "watch"],
            }
        ],
    },
}
"""What kubectl asks for first."""


def endpoint(address: str, *, pod: str | None = None, **conditions: bool) -> Json:
    """Without conditions nothing is said about it."""
    target = {} if pod is None else {"targetRef": {"kind": "Pod", "name": pod, "uid": pod}}
    return {"addresses": [address], "conditions": conditions, **target}


def endpoint_slice(
    name: str, *endpoints: Json, service: str = "verifier", family: str = "IPv4", ports: dict[str, int] | None = None
) -> Json:
    """An empty one has null for its endpoints, as Go writes a list that is none."""
    return {
        "metadata": {"name": name, "namespace": "pools", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": called, "protocol": "TCP", "port": number} for called, number in (ports or {}).items()],
    }


@dataclass(frozen=True)
class Change:
    """Of one object: before and after, None where there is none."""

    version: int
    before: Json | None
    after: Json | None

    def event_for(self, selects: Callable[[Json | None], bool]) -> Json | None:
        """As who watches a selection sees it: an object that leaves the selection is deleted to them."""
        if selects(self.after):
            return {"type": "MODIFIED" if selects(self.before) else "ADDED", "object": self.after}
        if selects(self.before):
            return {"type": "DELETED", "object": _at_version(self.before, self.version)}
        return None


class FakeApiServer:
    """State, faults, and what was asked.

    Attributes:
        allowed: verbs that RBAC lets through.
        token: that must be shown; None for any.
        script: answers to the next requests instead of proper ones: status, and headers or a body that is no JSON.
        gone_as_status: a watch from before the log begins is refused by the status of the answer.
        bookmark_s: between bookmarks of a watch, for who allows them.
        is_silent: watches tell nothing and do not end, as if the network had swallowed the connection.
        is_hasty: watches end properly as soon as they have begun.
        is_slow: watches send their events byte by byte.
        queries: that came.
        num_watches: open.
        num_bookmarks: sent.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.allowed = {"list", "watch"}
        self.token: str | None = None
        self.script: list[tuple[int, dict[str, str] | str]] = []
        self.gone_as_status = False
        self.bookmark_s = 60.0
        self.is_silent = False
        self.is_hasty = False
        self.is_slow = False
        self.queries: list[dict[str, str]] = []
        self.num_bookmarks = 0
        self.port = 0
        self.version = 100
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._tls = tls
        self._slices: dict[str, Json] = {}
        self._log: list[Change] = []
        self._compacted = self.version
        self._news = asyncio.Event()
        self._watches: set[asyncio.Transport] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def slices(self) -> list[Json]:
        return list(self._slices.values())

    @property
    def num_watches(self) -> int:
        return len(self._watches)

    async def start(self) -> None:
        """Serve, on the port it had before if there was one."""
        app = web.Application()
        app.router.add_get(COLLECTION, self._answer)
        for path, told in _WHAT_THERE_IS.items():
            app.router.add_get(path, _telling(told))
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            self.cut()
            await self._runner.cleanup()

    def put(self, told: Json) -> None:
        """Create a slice, or put another in its place."""
        name = told["metadata"]["name"]
        self._change(name, copy.deepcopy(told))

    def delete(self, name: str) -> None:
        self._change(name, None)

    def pass_time(self) -> None:
        """Something changes that is no slice."""
        self.version += 1

    def compact(self) -> None:
        """Forget how it came to what is now. Watches that are behind will be told that it is gone."""
        self._compacted = self.version
        self._log.clear()

    def hold(self) -> None:
        """Answer no new request until `go_on`."""
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    def cut(self, *, in_line: bool = False) -> None:
        """Break all watches off; in the middle of a line it looks like a proper end, as some proxies make it."""
        for transport in list(self._watches):
            if in_line:
                line = b'{"type":"DELETED","object":{"metadata":{"name":"'
                transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line))
                transport.close()
            else:
                transport.abort()

    def _change(self, name: str, after: Json | None) -> None:
        self.version += 1
        before = self._slices.pop(name, None)
        if after is not None:
            self._slices[name] = after = _at_version(after, self.version)
        self._log.append(Change(self.version, before, after))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        verb = "watch" if query.get("watch") in ("true", "True", "1") else "list"
        self.queries.append(query)
        await self._may_answer.wait()
        if self.token is not None and request.headers.get("Authorization", "").lower() != f"bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if verb not in self.allowed:
            namespace = request.match_info["namespace"]
            message = (
                f'endpointslices.discovery.k8s.io is forbidden: User "{_USER}" cannot {verb} resource "endpointslices" '
                f'in API group "discovery.k8s.io" in the namespace "{namespace}"'
            )
            return _status(403, "Forbidden", message)
        if self.script:
            code, told = self.script.pop(0)
            if isinstance(told, str):
                return web.Response(status=code, text=told, content_type="text/html")
            return _status(code, "ScriptedForATest", "scripted", told)
        if verb == "list":
            return self._list(request)
        assert request.transport is not None
        transport = request.transport
        self._watches.add(transport)
        try:
            return await self._watch(request)
        finally:
            self._watches.discard(transport)

    def _list(self, request: web.Request) -> web.Response:
        selects = _selector(request)
        return web.json_response(
            {
                "kind": "EndpointSliceList",
                "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"resourceVersion": str(self.version)},
                "items": [told for _, told in sorted(self._slices.items()) if selects(told)],
            }
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion", "0"))
        gone = f"too old resource version: {version} ({self._compacted})"
        if version < self._compacted and self.gone_as_status:
            return _status(410, "Expired", gone)
        if version > self.version:
            return _status(504, "Timeout", f"Too large resource version: {version}, current: {self.version}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if self.is_hasty:
            return response
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                await self._stream(request, response, version)
        while self.is_silent and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.01)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, version: int) -> None:
        """Until the watch's time has passed, or it is behind what is kept."""
        selects = _selector(request)
        next_bookmark_s = time.monotonic() + self.bookmark_s
        while True:
            news = self._news
            if version < self._compacted:
                gone = f"too old resource version: {version} ({self._compacted})"
                await self._send(response, {"type": "ERROR", "object": _status_object(410, "Expired", gone)})
                return
            for change in [change for change in self._log if change.version > version]:
                version = change.version
                event = change.event_for(selects)
                if event is not None:
                    await self._send(response, event)
            now_s = time.monotonic()
            if now_s >= next_bookmark_s and request.query.get("allowWatchBookmarks") in ("true", "True", "1"):
                version, next_bookmark_s = self.version, now_s + self.bookmark_s
                told = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}}
                await self._send(response, {"type": "BOOKMARK", "object": told})
                self.num_bookmarks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, next_bookmark_s - now_s)):
                    await news.wait()

    async def _send(self, response: web.StreamResponse, event: Json) -> None:
        if self.is_silent:
            return
        line = json.dumps(event).encode() + b"\n"
        for piece in [line[i : i + 1] for i in range(len(line))] if self.is_slow else [line]:
            await response.write(piece)


def _selector(request: web.Request) -> Callable[[Json | None], bool]:
    """Of `name=value`, in the request's namespace; without one all are selected."""
    name, _, value = request.query.get("labelSelector", "").partition("=")
    namespace = request.match_info["namespace"]

    def selects(told: Json | None) -> bool:
        if told is None or told["metadata"]["namespace"] != namespace:
            return False
        return not name or told["metadata"]["labels"].get(name) == value

    return selects


def _at_version(told: Json, version: int) -> Json:
    metadata = told["metadata"] | {"resourceVersion": str(version)}
    return {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", **told, "metadata": metadata}


def _status_object(code: int, reason: str, message: str) -> Json:
    metadata: Json = {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata,
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status_object(code, reason, message), status=code, headers=headers)


def _telling(told: Json) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def tell(_: web.Request) -> web.Response:
        return web.json_response(told)

    return tell
