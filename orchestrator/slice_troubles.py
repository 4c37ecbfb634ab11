"""What follows when the EndpointSlices of a Service cannot be listed or watched: how long to wait, what to begin
with, what to say.
"""

from __future__ import annotations

import logging
import random

from draftpool.errors import Unavailable

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 10.0
_MAX_RETRY_AFTER_S = 60.0
_BUSY = (429, 500, 502, 503)
_PASSING = (*_BUSY, 410, 504)
_MEANINGS = {
    401: "the API server does not accept the credentials",
    403: "RBAC does not allow to {verb} the EndpointSlices of namespace {namespace}; a Role there must allow the verbs "
    "get, list and watch on endpointslices of the API group discovery.k8s.io, and be bound to the service account",
    410: "the API server has forgotten what changed since; the EndpointSlices of namespace {namespace} are listed anew",
    404: "the API server does not know EndpointSlices (discovery.k8s.io/v1, since Kubernetes 1.21), or it is none",
}


class Trouble(Unavailable):
    """An attempt to list or watch that failed.

    Attributes:
        must_list: the version that was reached is of no use any more.
        lasts: until somebody does something about it.
    """

    reason = "NO_ENDPOINT_SLICES"

    def __init__(
        self, message: str, *, must_list: bool = False, lasts: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.must_list = must_list
        self.lasts = lasts


def refused(status: int, reason: str, *, verb: str, namespace: str, retry_after_s: float | None = None) -> Trouble:
    """What an answer means that is not the one asked for.

    A server that is merely busy still knows the version, and so it does after 401, which says nothing about it. After
    any other answer the slices are listed again: 410 says that what came after the version is forgotten; 504 is what a
    server that was restored from a backup says to a version from its own future; and who may list but not watch has
    at least a list now and then.

    Args:
        status: of HTTP, or of an error that ended a watch.
        reason: the server's own words.
        verb: list or watch, as RBAC calls it.
        retry_after_s: what the server asks for.
    """
    meaning = _MEANINGS.get(status, "cannot {verb} the EndpointSlices of namespace {namespace}")
    return Trouble(
        f"{meaning.format(verb=verb, namespace=namespace)} ({status}: {reason})",
        must_list=status not in (*_BUSY, 401),
        lasts=status not in _PASSING,
        retry_after_s=retry_after_s,
    )


class Outage:
    """The troubles of one source since it was last watched.

    Attributes:
        pause_s: before the next attempt. It grows, is jittered, and is the long one where a trouble lasts.
    """

    def __init__(self, source: str, *, lasting_pause_s: float) -> None:
        self.pause_s = 0.0
        self._source = source
        self._lasting_pause_s = lasting_pause_s
        self._num_troubles = 0
        self._said = ""

    def add(self, trouble: Trouble) -> None:
        """Says what is wrong, once. A first trouble that passes, like a server's restart, is nobody's concern."""
        is_first = self._num_troubles == 0
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._num_troubles, 10), _MAX_PAUSE_S)
        if trouble.lasts and not is_first:  # the first one may be due to a token that was about to be renewed
            pause_s = self._lasting_pause_s
        asked_for_s = min(trouble.retry_after_s or 0.0, _MAX_RETRY_AFTER_S)
        self.pause_s = max(pause_s, asked_for_s) * random.uniform(1, 1.5)  # never sooner than asked for
        self._num_troubles += 1
        if is_first and not trouble.lasts:
            log.debug("%s: %s", self._source, trouble.message)
        elif trouble.message != self._said:
            log.warning("%s, what is known stays: %s", self._source, trouble.message)
            self._said = trouble.message

    def end(self) -> None:
        """It is watched."""
        if self._said:
            log.info("%s is watched again", self._source)
        self._num_troubles = 0
        self._said = ""
