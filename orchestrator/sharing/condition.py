"""How the connection to Redis is doing: counted always, said once a change."""

from __future__ import annotations

import logging
from enum import Enum

from orchestrator.sharing import metrics
from orchestrator.sharing.address import RedisAddress

log = logging.getLogger(__name__)


class Trouble(Enum):
    """Why a round failed. Refused is an answer, from a server that is full, read only or has something else there."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    BUG = "bug"


class Condition:
    """The outcome of the rounds."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._trouble: Trouble | None = None
        self._is_known = False

    def succeeded(self) -> None:
        metrics.CONNECTED.set(1)
        if not self._is_known or self._trouble is not None:
            log.info("what is learned is shared through %s", self._address)
        self._is_known, self._trouble = True, None

    def failed(self, trouble: Trouble, error: Exception) -> None:
        metrics.CONNECTED.set(trouble is Trouble.REFUSED)
        metrics.FAILURES.labels(trouble.value).inc()
        if trouble is not self._trouble:
            reason = self._address.redacted(f"{type(error).__name__}: {error}".removesuffix(": "))
            log.warning(
                "%s: %s (%s); learning goes on here alone",
                *(self._address, trouble.value, reason),
                exc_info=error if trouble is Trouble.BUG else None,
            )
        self._is_known, self._trouble = True, trouble
