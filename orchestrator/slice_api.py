"""Asks a Kubernetes API server for the EndpointSlices of one Service: where it is, a list, a watch.

The client's `Watch` is left aside: it asks again at once and for ever where it should pause, hands out half a line as
an event, and loses the status and the headers of a refusal. Its API methods, configuration and credentials are used.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration, DiscoveryV1Api
from kubernetes.aio.config import ConfigException, list_kube_config_contexts, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME, InClusterConfigLoader

from orchestrator.endpoint_slices import Json
from orchestrator.slice_troubles import Trouble, refused

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a pod is given to talk to its API server."""

_LIST_TIMEOUT_S = 15.0
_GRACE_S = 10.0
"""A watch that has not ended so long after it should have has died without a word."""


class SliceApi:
    """The slices of one Service in one namespace."""

    def __init__(self, client: ApiClient, namespace: str, service: str) -> None:
        self._ask = DiscoveryV1Api(client).list_namespaced_endpoint_slice_without_preload_content
        self._namespace = namespace
        self._selector = f"kubernetes.io/service-name={service}"

    async def list(self) -> Json:
        """The newest state, never one from before what was told already. Raises Trouble."""
        async with self._answer("list", _request_timeout=_LIST_TIMEOUT_S) as response:
            return _decoded(await response.read())

    async def watch(self, version: str, timeout_s: float) -> AsyncGenerator[Json]:
        """Events after a version, bookmarks among them, until the server ends the watch as it was told to.

        Args:
            timeout_s: after which the server shall end it, at least 1; up to a quarter less is asked for, so that not
                all orchestrators come back at once.

        Raises:
            Trouble: refused, out of reach, broken off, ended with an error or too soon, or silent past its end.
        """
        started_s = time.monotonic()
        asked_s = max(1, round(timeout_s * random.uniform(0.75, 1)))
        async with self._answer(
            "watch",
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=asked_s,
            _request_timeout=asked_s + _GRACE_S,
        ) as response:
            while line := await response.content.readline():
                event = _decoded(line)
                if event["type"] == "ERROR":
                    raise self._refused("watch", event["object"]["code"], event["object"])
                yield event
            if time.monotonic() - started_s < asked_s / 2:
                raise Trouble("the API server ended a watch before its time")

    @asynccontextmanager
    async def _answer(self, verb: str, **query: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Whatever goes wrong until the answer has been read is a Trouble."""
        try:
            async with await self._ask(self._namespace, label_selector=self._selector, **query) as response:
                if response.status != HTTPStatus.OK:
                    raise self._refused(verb, response.status, _status(await response.read()), response.headers)
                yield response
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError among the latter
            raise Trouble(f"the API server cannot be heard: {type(error).__name__} {error}".strip()) from None

    def _refused(self, verb: str, status: int, told: Json, headers: Mapping[str, str] | None = None) -> Trouble:
        """From a `Status` object, empty where there is none."""
        retry_after = (headers or {}).get("Retry-After", "")
        return refused(
            status,
            told.get("message") or told.get("reason") or "no reason given",
            verb=verb,
            namespace=self._namespace,
            retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
        )


@asynccontextmanager
async def slice_api(service: str, namespace: str | None) -> AsyncIterator[SliceApi]:
    """Reads where the API server is and what to show it: in a pod, what the pod was given; elsewhere the kubeconfig.

    Args:
        namespace: None for that of the pod, or of the kubeconfig's current context.

    Raises:
        Trouble: there is neither, or it cannot be used.
    """
    configuration = Configuration()
    try:
        if os.environ.get(SERVICE_HOST_ENV_NAME):
            own_namespace = _load_pod(configuration)
        else:
            own_namespace = await _load_kubeconfig(configuration)
        client = ApiClient(configuration)
    except (ConfigException, OSError) as error:  # of OSError, those of TLS too
        raise Trouble(f"no way to the API server: {error}", lasts=True) from None
    async with client:
        yield SliceApi(client, namespace or own_namespace, service)


def _load_pod(configuration: Configuration) -> str:
    """Returns the pod's namespace. The token is read again while the client is in use, as it is renewed on disk."""
    loader = InClusterConfigLoader(str(SERVICE_ACCOUNT / "token"), str(SERVICE_ACCOUNT / "ca.crt"))
    loader.load_and_set(configuration)
    return (SERVICE_ACCOUNT / "namespace").read_text().strip()


async def _load_kubeconfig(configuration: Configuration) -> str:
    """Returns the namespace of the current context."""
    paths = _kubeconfig_paths()
    # Not persisted: nothing but a credential plugin's owner should write to somebody's kubeconfig.
    await load_kube_config(paths, client_configuration=configuration, persist_config=False)
    _, context = list_kube_config_contexts(paths)
    return str(context["context"].get("namespace") or "default")


def _kubeconfig_paths() -> str:
    """As in the variable: several may be merged. Raises ConfigException where there is none."""
    paths = os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
        raise ConfigException(f"this is no pod ({SERVICE_HOST_ENV_NAME} is not set) and {paths} is not there")
    return paths


def _status(body: bytes) -> Json:
    """The `Status` object in a refusal; empty for what else stands in front of an API server and answers in HTML."""
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _decoded(text: bytes) -> Json:
    """Raises Trouble where it is no JSON: a line that was cut."""
    try:
        return cast("Json", json.loads(text))
    except ValueError:
        raise Trouble(f"the API server sent what is no JSON: {text[:100]!r}") from None
