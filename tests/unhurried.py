"""Rounds that wait for their drafts: for tests of what drafts do, which shall not depend on how busy a machine is."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_WAITS = ("DRAFTPOOL_ORCHESTRATOR_DRAFT_LEAST_WAIT_S", "DRAFTPOOL_ORCHESTRATOR_DRAFT_FIRST_WAIT_S")


@contextmanager
def unhurried() -> Iterator[None]:
    """Orchestrators that are started meanwhile wait for every draft, seconds if need be."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _WAITS:
            patch.setenv(name, "4")
        yield
